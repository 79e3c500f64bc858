"""What to run: Python definitions, YAML pipelines, jobs over records. Loads nothing by itself."""
