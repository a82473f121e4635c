//! Stand-ins for a model, with faults on command.
