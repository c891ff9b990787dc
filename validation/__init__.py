"""What must hold: Great Expectations suites over the tables. No Beam."""
