-- Label models whose probabilities are being written, block by block. Their rows of label_models follow with the last block, so
-- nothing reads half of them; a run that was stopped goes on after the last block written.
CREATE TABLE label_drafts (key VARCHAR NOT NULL, first_no INTEGER NOT NULL);
