"""The search space of NASIB: cells whose edges choose among a hundred operations."""
