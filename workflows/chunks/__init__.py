"""Long documents: cut by their structure into parts that fit a prompt, and the parts' answers put together."""
