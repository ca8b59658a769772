-- What people said of texts. An action may speak of several texts, and is undone as a whole. label_nos: what was said (empty: none of
-- the labels); before: what the same person had said of the text, null if nothing.
CREATE TABLE answer_events (
    action_no INTEGER NOT NULL, text_no INTEGER NOT NULL, annotator VARCHAR, label_nos INTEGER[] NOT NULL, before INTEGER[],
    undone BOOLEAN NOT NULL DEFAULT false, happened_at TIMESTAMP NOT NULL DEFAULT now()::TIMESTAMP);
