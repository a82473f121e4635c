//! Messages in, messages out, by the model's own template.
