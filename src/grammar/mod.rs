//! Steps whose tokens spell what a grammar allows: JSON schemas, regular expressions, Lark and choices, by llguidance.
