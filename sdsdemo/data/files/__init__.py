"""Reading files as users save them: tables, JSON, Parquet, pictures. Knows no benchmark."""
