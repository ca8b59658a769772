-- LoRA adapters that the language model got from its own data. name: as an engine is asked for it, with the first digits of the
-- SHA-256 of the weights, so that another training is never taken for this one. alias: the name the pipeline gave.
CREATE TABLE adapters (
    adapter_no INTEGER NOT NULL, key VARCHAR NOT NULL, name VARCHAR NOT NULL, alias VARCHAR NOT NULL, base_model VARCHAR NOT NULL,
    revision VARCHAR, prompt VARCHAR NOT NULL, prompt_version VARCHAR NOT NULL, demonstrations INTEGER NOT NULL,
    weights VARCHAR NOT NULL, config JSON NOT NULL, params JSON NOT NULL, path VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT now()::TIMESTAMP);
-- Which synthetic texts an adapter learned from; drop_reason: those it did not, and why.
CREATE TABLE adapter_rows (adapter_no INTEGER NOT NULL, synthetic_no INTEGER NOT NULL, drop_reason VARCHAR);
