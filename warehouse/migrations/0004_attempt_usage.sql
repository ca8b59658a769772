-- Calls that gave no answer may be billed all the same. tokens_counted: as in answers; null where nothing was billed. words: what the
-- server said, shortened, without keys. An outcome `partial`: some of the answers asked for came.
ALTER TABLE attempts ADD COLUMN tokens_counted BOOLEAN;
ALTER TABLE attempts ADD COLUMN words VARCHAR;
