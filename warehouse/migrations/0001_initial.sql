-- The whole line: task, corpus, requests and answers, synthetic texts, programs, votes, labels, models, evaluations, runs.
-- Numbered migrations are applied once, in order, and never edited after a release.

-- Task ---------------------------------------------------------------------------------------------------------------
CREATE TABLE tasks (
    task_no INTEGER NOT NULL, revision VARCHAR NOT NULL, name VARCHAR NOT NULL, kind VARCHAR NOT NULL,
    card JSON NOT NULL, created_at TIMESTAMP NOT NULL DEFAULT now()::TIMESTAMP);
-- Label numbers are append-only: a label taken off the card keeps its number and is marked inactive.
CREATE TABLE labels (label_no INTEGER NOT NULL, name VARCHAR NOT NULL, description VARCHAR NOT NULL, active BOOLEAN NOT NULL);

-- Corpus -------------------------------------------------------------------------------------------------------------
-- content_digest covers the texts alone (never a label), in row order. Nothing here depends on test or reference labels, so sizes
-- and times of files are kept beside the warehouse (NAME.files.json, a hint that may be lost).
CREATE TABLE sources (
    source_no INTEGER NOT NULL, split VARCHAR NOT NULL, path VARCHAR NOT NULL, format VARCHAR NOT NULL,
    columns JSON NOT NULL, content_digest VARCHAR NOT NULL, n_rows BIGINT NOT NULL, n_bad BIGINT NOT NULL,
    ingested_at TIMESTAMP NOT NULL DEFAULT now()::TIMESTAMP);
-- content_hash: the first 16 bytes of SHA-256 of the text (or of the canonical JSON of its fields).
-- origin: corpus, or synthetic. text_no is dense and given in order of arrival.
CREATE TABLE texts (
    text_no INTEGER NOT NULL, content_hash BLOB NOT NULL, text VARCHAR NOT NULL, fields JSON, origin VARCHAR NOT NULL);
-- split: train, seed, dev, test. kept is false when the occurrence left its split (leave_reason says why).
CREATE TABLE occurrences (
    source_no INTEGER NOT NULL, row_no BIGINT NOT NULL, text_no INTEGER NOT NULL, split VARCHAR NOT NULL,
    kept BOOLEAN NOT NULL, leave_reason VARCHAR);
-- Gold of seed and dev only; test and reference gold live in NAME.gold.duckdb. label_no -1: a multi text with no label.
CREATE TABLE gold (source_no INTEGER NOT NULL, row_no BIGINT NOT NULL, text_no INTEGER NOT NULL, label_no INTEGER NOT NULL);
-- Embeddings, computed once per encoder and text.
CREATE TABLE vectors (encoder_key VARCHAR NOT NULL, text_no INTEGER NOT NULL, vector FLOAT[] NOT NULL);
CREATE TABLE bad_rows (source_no INTEGER NOT NULL, row_no BIGINT NOT NULL, drop_reason VARCHAR NOT NULL, detail VARCHAR);

-- Requests and answers -----------------------------------------------------------------------------------------------
-- content_key: hash of messages and schema alone; recorded answers match by it.
CREATE TABLE requests (
    request_key VARCHAR NOT NULL, content_key VARCHAR NOT NULL, model VARCHAR NOT NULL, revision VARCHAR, adapter VARCHAR,
    prompt VARCHAR NOT NULL, prompt_version VARCHAR NOT NULL, stage VARCHAR NOT NULL,
    messages JSON NOT NULL, sampling JSON NOT NULL, schema JSON, created_at TIMESTAMP NOT NULL DEFAULT now()::TIMESTAMP);
-- tokens_counted: true when the server counted, false when estimated. origin: engine name, or recorded.
CREATE TABLE answers (
    request_key VARCHAR NOT NULL, sample_no INTEGER NOT NULL, answer VARCHAR NOT NULL, reasoning VARCHAR,
    finish_reason VARCHAR NOT NULL, tokens_in INTEGER, tokens_cached INTEGER, tokens_out INTEGER,
    tokens_counted BOOLEAN NOT NULL, cost DOUBLE, latency_ms DOUBLE, logprobs JSON, origin VARCHAR NOT NULL,
    answered_at TIMESTAMP NOT NULL DEFAULT now()::TIMESTAMP);
-- One row per call sent, failed and billed ones included. outcome: answered, retried, failed, unknown.
CREATE TABLE attempts (
    attempt_no BIGINT NOT NULL, request_key VARCHAR NOT NULL, first_sample INTEGER NOT NULL, last_sample INTEGER NOT NULL,
    outcome VARCHAR NOT NULL, reason VARCHAR, http_status INTEGER, tokens_in INTEGER, tokens_out INTEGER, cost DOUBLE,
    latency_ms DOUBLE, engine VARCHAR NOT NULL, started_at TIMESTAMP NOT NULL DEFAULT now()::TIMESTAMP);

-- Plans: what is missing, frozen before it is filled -------------------------------------------------------------------
CREATE TABLE plans (
    plan_no INTEGER NOT NULL, stage VARCHAR NOT NULL, key VARCHAR NOT NULL, config JSON NOT NULL,
    task_revision VARCHAR NOT NULL, prompt_version VARCHAR NOT NULL, done BOOLEAN NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT now()::TIMESTAMP);
-- state: open, accepted, dropped. Decided in slot order, never in order of arrival.
CREATE TABLE slots (
    plan_no INTEGER NOT NULL, slot_no INTEGER NOT NULL, round INTEGER NOT NULL, spec JSON NOT NULL, parents JSON NOT NULL,
    request_key VARCHAR, sample_no INTEGER, state VARCHAR NOT NULL, drop_reason VARCHAR, detail VARCHAR);

-- Synthetic texts ------------------------------------------------------------------------------------------------------
-- part_no: one answer may give several texts. text_no is null for dropped ones (they are no texts of the corpus).
CREATE TABLE synthetic (
    synthetic_no INTEGER NOT NULL, plan_no INTEGER NOT NULL, slot_no INTEGER NOT NULL, part_no INTEGER NOT NULL,
    text_no INTEGER, text VARCHAR NOT NULL, label_no INTEGER NOT NULL, method VARCHAR NOT NULL,
    seed_text_no INTEGER, passage_text_no INTEGER, demo_text_nos INTEGER[], prompt_version VARCHAR NOT NULL,
    request_key VARCHAR NOT NULL, sample_no INTEGER NOT NULL, state VARCHAR NOT NULL, drop_reason VARCHAR, detail VARCHAR);

-- What is retrieved from: texts of the split train, or pieces of them and of outside sources (texts of origin 'passage', which
-- occur in no split). parent_text_no: the corpus text a piece was cut from; row_no: its row in an outside source.
CREATE TABLE passages (
    corpus_key VARCHAR NOT NULL, text_no INTEGER NOT NULL, parent_text_no INTEGER, source VARCHAR NOT NULL, row_no BIGINT,
    first_char INTEGER NOT NULL, last_char INTEGER NOT NULL);
-- Up to which synthetic text, and against which dev and test texts, decontamination was done.
CREATE TABLE decontaminations (held_out VARCHAR NOT NULL, last_synthetic_no INTEGER NOT NULL, n_dropped INTEGER NOT NULL);

-- The teacher's own labels ---------------------------------------------------------------------------------------------
-- label_no null: the answer could not be read (drop_reason says why). Multi: several rows per text, -1 for "none".
CREATE TABLE annotations (
    plan_no INTEGER NOT NULL, slot_no INTEGER NOT NULL, text_no INTEGER NOT NULL, label_no INTEGER,
    request_key VARCHAR NOT NULL, sample_no INTEGER NOT NULL, drop_reason VARCHAR);

-- Programs and votes -----------------------------------------------------------------------------------------------------
-- program_key: SHA-256 of kind, target label and source. kind: python, prompted, trusted. origin: model, hand, snorkel, wrench.
-- state: draft, valid, accepted, rejected, superseded. target_label_no: the one label a program of a multi task speaks of.
CREATE TABLE programs (
    program_no INTEGER NOT NULL, program_key VARCHAR NOT NULL, name VARCHAR NOT NULL, kind VARCHAR NOT NULL,
    origin VARCHAR NOT NULL, target_label_no INTEGER, source VARCHAR NOT NULL, parent_no INTEGER,
    plan_no INTEGER, slot_no INTEGER, request_key VARCHAR, sample_no INTEGER, prompt_version VARCHAR,
    state VARCHAR NOT NULL, drop_reason VARCHAR, detail VARCHAR, created_at TIMESTAMP NOT NULL DEFAULT now()::TIMESTAMP);
CREATE TABLE program_events (
    program_no INTEGER NOT NULL, state VARCHAR NOT NULL, reason VARCHAR, actor VARCHAR NOT NULL,
    happened_at TIMESTAMP NOT NULL DEFAULT now()::TIMESTAMP);
-- Narrow, no key, abstentions left out. single: vote = label_no. multi: 0 no, 1 yes.
CREATE TABLE votes (program_no INTEGER NOT NULL, text_no INTEGER NOT NULL, vote INTEGER NOT NULL);
-- What was done: one row per program and range of texts, in the transaction that wrote the votes.
CREATE TABLE vote_blocks (
    program_no INTEGER NOT NULL, first_text_no INTEGER NOT NULL, last_text_no INTEGER NOT NULL,
    n_texts INTEGER NOT NULL, n_votes INTEGER NOT NULL, counts JSON NOT NULL);
CREATE TABLE vote_failures (program_no INTEGER NOT NULL, text_no INTEGER NOT NULL, status VARCHAR NOT NULL, detail VARCHAR);

-- Label models -------------------------------------------------------------------------------------------------------------
CREATE TABLE label_models (
    label_model_no INTEGER NOT NULL, key VARCHAR NOT NULL, name VARCHAR NOT NULL, config JSON NOT NULL, params JSON,
    chosen BOOLEAN NOT NULL, reason VARCHAR, created_at TIMESTAMP NOT NULL DEFAULT now()::TIMESTAMP);
-- probs has one entry per label number (multi: the probability of yes, null where nothing is known).
CREATE TABLE soft_labels (
    label_model_no INTEGER NOT NULL, text_no INTEGER NOT NULL, probs FLOAT[] NOT NULL, covered BOOLEAN NOT NULL,
    tie BOOLEAN NOT NULL);

-- Students -----------------------------------------------------------------------------------------------------------------
CREATE TABLE models (
    model_no INTEGER NOT NULL, key VARCHAR NOT NULL, system VARCHAR NOT NULL, student VARCHAR NOT NULL, encoder VARCHAR,
    config JSON NOT NULL, params JSON, path VARCHAR NOT NULL, created_at TIMESTAMP NOT NULL DEFAULT now()::TIMESTAMP);
-- Which texts a model learned from, with what target and weight; a row left out has weight 0 and a drop_reason.
CREATE TABLE model_rows (
    model_no INTEGER NOT NULL, text_no INTEGER NOT NULL, origin VARCHAR NOT NULL, probs FLOAT[] NOT NULL,
    weight FLOAT NOT NULL, drop_reason VARCHAR);
CREATE TABLE trials (
    key VARCHAR NOT NULL, system VARCHAR NOT NULL, trial_no INTEGER NOT NULL, config JSON NOT NULL, criterion VARCHAR NOT NULL,
    score DOUBLE NOT NULL, created_at TIMESTAMP NOT NULL DEFAULT now()::TIMESTAMP);

-- Evaluation ---------------------------------------------------------------------------------------------------------------
CREATE TABLE evaluations (
    evaluation_no INTEGER NOT NULL, key VARCHAR NOT NULL, system VARCHAR NOT NULL, split VARCHAR NOT NULL,
    variant VARCHAR NOT NULL, n INTEGER NOT NULL, n_scored INTEGER NOT NULL, coverage DOUBLE, metrics JSON NOT NULL,
    detail JSON, created_at TIMESTAMP NOT NULL DEFAULT now()::TIMESTAMP);
CREATE TABLE exports (
    export_no INTEGER NOT NULL, key VARCHAR NOT NULL, model_no INTEGER, kind VARCHAR NOT NULL, path VARCHAR NOT NULL,
    manifest JSON NOT NULL, created_at TIMESTAMP NOT NULL DEFAULT now()::TIMESTAMP);

-- Runs ---------------------------------------------------------------------------------------------------------------------
CREATE TABLE runs (
    run_no INTEGER NOT NULL, pipeline VARCHAR NOT NULL, config JSON NOT NULL, started_at TIMESTAMP NOT NULL,
    ended_at TIMESTAMP, status VARCHAR NOT NULL);
CREATE TABLE stage_runs (
    run_no INTEGER NOT NULL, step_no INTEGER NOT NULL, stage VARCHAR NOT NULL, skipped BOOLEAN NOT NULL, did JSON NOT NULL,
    started_at TIMESTAMP NOT NULL, ended_at TIMESTAMP NOT NULL);
