//! The door of MotorBrain: OpenAI's HTTP interface and its own, over one brain.
