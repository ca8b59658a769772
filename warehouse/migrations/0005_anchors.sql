-- Training texts labelled by the model or by people: they judge programs and teach, and are never gold. role: audit (for estimates
-- alone) or teach. A text has one row (its label) in a single task, and one for each label (yes or no) in a multi task, for each who
-- answered: source is model or person, annotator the person's name. stratum, p: the programs' votes that a text was drawn by, and
-- its probability of being drawn; null where nobody drew it. prob: what the model's logprobs give its answer, where there are any.
CREATE TABLE anchors (
    text_no INTEGER NOT NULL, label_no INTEGER NOT NULL, yes BOOLEAN NOT NULL, role VARCHAR NOT NULL, source VARCHAR NOT NULL,
    annotator VARCHAR, stratum VARCHAR, p DOUBLE, prob DOUBLE, plan_no INTEGER, slot_no INTEGER);
