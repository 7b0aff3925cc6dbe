"""The micro space of ENAS: a normal cell and a reduction cell."""
