"""Where the values of an answer stand in the text that they were taken from."""
