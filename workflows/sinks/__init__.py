"""Where the rows of a job go, one module a kind of place: files of lines, Parquet, tables of databases."""
