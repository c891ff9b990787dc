"""Label files of every listed format, read into the rows of `schemas.raw`; told apart by `forms`."""
