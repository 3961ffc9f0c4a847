"""Parts of the audit of symmetries: actions on fields, terms of laws, and the comparison of laws."""
