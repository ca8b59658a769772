-- Batches handed to a hosted service, each on record before anything is sent. batch_key: ours, told to the service as metadata;
-- input_file_id, batch_id: the service's, null until it has told them. url: the service, without name, password and query.
-- calls: lines of the file; most_bytes: the most that their results may come to. status: open, or how it ended in the service's word.
CREATE TABLE batches (
    batch_key VARCHAR NOT NULL, url VARCHAR NOT NULL, calls INTEGER NOT NULL, most_bytes BIGINT NOT NULL, input_file_id VARCHAR,
    batch_id VARCHAR, status VARCHAR NOT NULL DEFAULT 'open', created_at TIMESTAMP NOT NULL DEFAULT now()::TIMESTAMP);
