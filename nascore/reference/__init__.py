"""Standard networks next to a search: trained at its cost, as a yardstick of what it found."""
