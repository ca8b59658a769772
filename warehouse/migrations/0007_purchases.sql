-- What the step `buy` decided, on record before anything is asked. kind: first, audit, a kind of purchase, or stop. size: how many;
-- label: for which; reach, expected, sd: what the decision rests on, in shares of the score; price: what it was to take, in unit.
-- gain, error: by how much the score rose on anchors that teach, and its standard error; null where nothing could be measured.
-- judged: how right the answer is on each of these anchors afterwards. setting: of the parameters and the budget of a stop.
CREATE TABLE purchases (
    purchase_no INTEGER NOT NULL, task_revision VARCHAR NOT NULL, kind VARCHAR NOT NULL, label VARCHAR, size INTEGER NOT NULL,
    reach DOUBLE NOT NULL, expected DOUBLE, sd DOUBLE, price DOUBLE, unit VARCHAR, why VARCHAR NOT NULL, setting VARCHAR,
    done BOOLEAN NOT NULL DEFAULT false, gain DOUBLE, error DOUBLE, requests BIGINT, tokens BIGINT, cost DOUBLE, judged JSON,
    decided_at TIMESTAMP NOT NULL DEFAULT now()::TIMESTAMP);
