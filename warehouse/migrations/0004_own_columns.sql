-- The user's own columns of a row, by the names that they have in the file: its id, and what was to be kept.
CREATE TABLE occurrence_fields (source_no INTEGER NOT NULL, row_no BIGINT NOT NULL, fields JSON NOT NULL);
-- What two texts are compared by where case, blanks and the form of accents do not count: the first 8 bytes of a SHA-256.
CREATE TABLE text_keys (text_no INTEGER NOT NULL, folded BIGINT NOT NULL);
