-- The views people query. Created anew after every migration, so they may change freely.

-- The texts of each split that were kept, each once.
CREATE OR REPLACE VIEW split_texts AS
    SELECT DISTINCT split, text_no FROM occurrences WHERE kept;

-- Lineage: one row per edge. Everything is named by (kind, no as text).
CREATE OR REPLACE VIEW lineage AS
    SELECT 'text' AS child_kind, text_no::VARCHAR AS child, 'source' AS parent_kind, source_no::VARCHAR AS parent,
           'row ' || row_no AS how FROM occurrences
    UNION ALL SELECT 'text', text_no::VARCHAR, 'synthetic', synthetic_no::VARCHAR, method FROM synthetic WHERE text_no IS NOT NULL
    UNION ALL SELECT 'synthetic', synthetic_no::VARCHAR, 'request', request_key, 'sample ' || sample_no FROM synthetic
    UNION ALL SELECT 'synthetic', synthetic_no::VARCHAR, 'text', seed_text_no::VARCHAR, 'seed' FROM synthetic WHERE seed_text_no IS NOT NULL
    UNION ALL SELECT 'synthetic', synthetic_no::VARCHAR, 'text', passage_text_no::VARCHAR, 'passage' FROM synthetic WHERE passage_text_no IS NOT NULL
    UNION ALL SELECT 'synthetic', synthetic_no::VARCHAR, 'text', d::VARCHAR, 'demonstration' FROM (SELECT synthetic_no, unnest(demo_text_nos) AS d FROM synthetic)
    UNION ALL SELECT 'request', request_key, 'prompt', prompt || '@' || prompt_version, stage FROM requests
    UNION ALL SELECT 'request', r.request_key, 'adapter', a.adapter_no::VARCHAR, 'asked' FROM requests r JOIN adapters a ON a.name = r.adapter
    UNION ALL SELECT 'adapter', adapter_no::VARCHAR, 'synthetic', synthetic_no::VARCHAR, 'learned' FROM adapter_rows WHERE drop_reason IS NULL
    UNION ALL SELECT 'program', program_no::VARCHAR, 'request', request_key, 'sample ' || sample_no FROM programs WHERE request_key IS NOT NULL
    UNION ALL SELECT 'program', program_no::VARCHAR, 'program', parent_no::VARCHAR, 'earlier version' FROM programs WHERE parent_no IS NOT NULL
    UNION ALL SELECT 'annotation', text_no::VARCHAR, 'request', request_key, 'sample ' || sample_no FROM annotations
    UNION ALL SELECT 'soft_label', s.label_model_no || '/' || s.text_no, 'text', s.text_no::VARCHAR, 'of' FROM soft_labels s
    UNION ALL SELECT 'soft_label', s.label_model_no || '/' || s.text_no, 'label_model', s.label_model_no::VARCHAR, 'by' FROM soft_labels s
    UNION ALL SELECT 'soft_label', s.label_model_no || '/' || s.text_no, 'program', v.program_no::VARCHAR,
           'vote ' || CASE WHEN p.target_label_no IS NULL THEN coalesce(l.name, v.vote::VARCHAR)
                           ELSE CASE v.vote WHEN 1 THEN '' ELSE 'not ' END || t.name END
              FROM soft_labels s JOIN votes v USING (text_no) LEFT JOIN programs p USING (program_no)
              LEFT JOIN labels l ON l.label_no = v.vote LEFT JOIN labels t ON t.label_no = p.target_label_no
    UNION ALL SELECT 'model', model_no::VARCHAR, 'text', text_no::VARCHAR, origin || ' weight ' || weight FROM model_rows WHERE weight > 0
    UNION ALL SELECT 'export', export_no::VARCHAR, 'model', model_no::VARCHAR, kind FROM exports WHERE model_no IS NOT NULL;

-- FROM ancestors('model', '1') and FROM descendants('request', 'ab12...'): the whole walk, either way.
CREATE OR REPLACE MACRO ancestors(of_kind, of_no) AS TABLE
    WITH RECURSIVE walk AS (
        SELECT child_kind, child, parent_kind, parent, how, 1 AS depth FROM lineage WHERE child_kind = of_kind AND child = of_no
        UNION
        SELECT l.child_kind, l.child, l.parent_kind, l.parent, l.how, walk.depth + 1
        FROM lineage l JOIN walk ON l.child_kind = walk.parent_kind AND l.child = walk.parent WHERE walk.depth < 12)
    SELECT * FROM walk;
-- The other way: what came of a thing.
CREATE OR REPLACE MACRO descendants(of_kind, of_no) AS TABLE
    WITH RECURSIVE walk AS (
        SELECT child_kind, child, parent_kind, parent, how, 1 AS depth FROM lineage WHERE parent_kind = of_kind AND parent = of_no
        UNION
        SELECT l.child_kind, l.child, l.parent_kind, l.parent, l.how, walk.depth + 1
        FROM lineage l JOIN walk ON l.parent_kind = walk.child_kind AND l.parent = walk.child WHERE walk.depth < 12)
    SELECT * FROM walk;

-- What was asked of models, with tokens and money, by stage, model and prompt.
CREATE OR REPLACE VIEW spend AS
    SELECT r.stage, r.model, r.prompt, count(DISTINCT r.request_key) AS requests, count(a.sample_no) AS answers,
           coalesce(sum(a.tokens_in) FILTER (WHERE a.sample_no IS NOT NULL), 0)::BIGINT AS tokens_in,
           coalesce(sum(a.tokens_cached), 0)::BIGINT AS tokens_cached, coalesce(sum(a.tokens_out), 0)::BIGINT AS tokens_out,
           coalesce(bool_and(a.tokens_counted), false) AS tokens_counted, coalesce(sum(a.cost), 0) AS cost,
           (SELECT count(*) FROM attempts t JOIN requests q USING (request_key)
             WHERE q.stage = r.stage AND q.model = r.model AND q.prompt = r.prompt AND t.outcome <> 'answered') AS failed_attempts
    FROM requests r LEFT JOIN answers a USING (request_key) GROUP BY ALL;

-- Coverage, overlaps and conflicts per program, over the texts of the split train (as Snorkel's lf_summary counts them).
CREATE OR REPLACE VIEW program_summary AS
    WITH train AS (SELECT text_no FROM split_texts WHERE split = 'train'),
         live AS (SELECT program_no, target_label_no FROM programs WHERE state = 'accepted'),
         v AS (SELECT votes.program_no, votes.text_no, votes.vote, coalesce(live.target_label_no, -1) AS target
               FROM votes JOIN live USING (program_no) JOIN train USING (text_no)),
         per_text AS (SELECT text_no, target, count(*) AS n, count(DISTINCT vote) AS kinds FROM v GROUP BY ALL)
    SELECT p.program_no, p.name, p.target_label_no, list_sort(list(DISTINCT v.vote)) AS polarity,
           count(v.text_no) / greatest((SELECT count(*) FROM train), 1) AS coverage,
           count(v.text_no) FILTER (WHERE per_text.n > 1) / greatest((SELECT count(*) FROM train), 1) AS overlaps,
           count(v.text_no) FILTER (WHERE per_text.kinds > 1) / greatest((SELECT count(*) FROM train), 1) AS conflicts
    FROM programs p JOIN live USING (program_no) LEFT JOIN v ON v.program_no = p.program_no
         LEFT JOIN per_text ON per_text.text_no = v.text_no AND per_text.target = v.target
    GROUP BY ALL;

-- What was dropped, and why.
CREATE OR REPLACE VIEW dropped AS
    SELECT 'ingest' AS stage, 'row' AS kind, source_no || ':' || row_no AS item, drop_reason, detail FROM bad_rows
    UNION ALL SELECT 'ingest', 'occurrence', source_no || ':' || row_no, leave_reason, split FROM occurrences WHERE NOT kept
    UNION ALL SELECT 'synthesize', 'synthetic', synthetic_no::VARCHAR, drop_reason, detail FROM synthetic WHERE state = 'dropped'
    UNION ALL SELECT p.stage, 'slot', s.plan_no || '/' || s.slot_no, s.drop_reason, s.detail FROM slots s JOIN plans p USING (plan_no) WHERE s.state = 'dropped'
    UNION ALL SELECT 'author', 'program', program_no::VARCHAR, drop_reason, detail FROM programs WHERE state = 'rejected'
    UNION ALL SELECT 'annotate', 'annotation', plan_no || '/' || slot_no, drop_reason, text_no::VARCHAR FROM annotations WHERE label_no IS NULL
    UNION ALL SELECT 'vote', 'vote', program_no || '/' || text_no, status, detail FROM vote_failures
    UNION ALL SELECT 'tune', 'pair', adapter_no || '/' || synthetic_no, drop_reason, NULL FROM adapter_rows WHERE drop_reason IS NOT NULL
    UNION ALL SELECT 'distill', 'row', model_no || '/' || text_no, drop_reason, origin FROM model_rows WHERE drop_reason IS NOT NULL;
