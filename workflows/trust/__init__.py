"""What is known of each field of a job's rows: how sure it is, where it stands in the source, who wrote it."""
