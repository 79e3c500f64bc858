"""Where the records of a job come from, one module a format: files of documents, mail, tables, SQL databases."""
