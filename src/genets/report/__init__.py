"""Reports: results as tables, pages, pictures and records. This package prints nothing."""
