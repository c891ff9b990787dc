"""What flows: frozen records, Arrow schemas, the label vocabulary, the reasons. No Beam."""
