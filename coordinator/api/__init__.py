"""The REST face: one router a noun, problem documents for every refusal, one policy decision for every act."""
