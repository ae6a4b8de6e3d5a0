"""Files as people save them: tables, JSON, Parquet, pictures and their names. Knows no benchmark."""
