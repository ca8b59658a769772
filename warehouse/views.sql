-- The views people query. Created anew after every migration, so they may change freely.

-- The texts of each split that were kept, each once.
CREATE OR REPLACE VIEW split_texts AS
    SELECT DISTINCT split, text_no FROM occurrences WHERE kept;

-- Where every row stands, for a person: FILE:LINE, or the number of the row in a file without lines; and the user's own columns.
CREATE OR REPLACE VIEW places AS
    SELECT o.source_no, o.row_no, o.text_no, o.split, o.kept, o.leave_reason,
           s.path || CASE WHEN s.format IN ('csv', 'jsonl', 'lines') THEN ':' ELSE ': row ' END || o.row_no AS place, f.fields
    FROM occurrences o JOIN sources s USING (source_no) LEFT JOIN occurrence_fields f USING (source_no, row_no);

-- Lineage: one row per edge. Everything is named by (kind, no as text).
CREATE OR REPLACE VIEW lineage AS
    SELECT 'text' AS child_kind, text_no::VARCHAR AS child, 'source' AS parent_kind, source_no::VARCHAR AS parent,
           place || coalesce(' ' || fields::VARCHAR, '') AS how FROM places
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
    UNION ALL SELECT 'export', export_no::VARCHAR, 'model', model_no::VARCHAR, kind FROM exports WHERE model_no IS NOT NULL
    UNION ALL SELECT 'export', export_no::VARCHAR, 'label_model', manifest ->> '$.label_model_no', kind FROM exports
              WHERE manifest ->> '$.label_model_no' IS NOT NULL;

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

-- What was billed: every call, failed and repeated ones too. cost is null where nothing of it is known, and cost_unknown counts
-- the calls whose cost nobody knows (no price, or nobody was told). failed_attempts: calls without any answer.
CREATE OR REPLACE VIEW spend AS
    WITH said AS (
            SELECT request_key, count(*) AS answers, sum(tokens_cached) AS tokens_cached, bool_and(tokens_counted) AS counted
            FROM answers GROUP BY ALL),
         billed AS (
            SELECT request_key, sum(tokens_in) AS tokens_in, sum(tokens_out) AS tokens_out, bool_and(tokens_counted) AS counted,
                   sum(cost) AS cost, count(*) FILTER (WHERE cost IS NULL) AS cost_unknown,
                   count(*) FILTER (WHERE outcome NOT IN ('answered', 'partial')) AS failed_attempts
            FROM attempts GROUP BY ALL)
    SELECT r.stage, r.model, r.prompt, count(*) AS requests, coalesce(sum(answers), 0)::BIGINT AS answers,
           coalesce(sum(tokens_in), 0)::BIGINT AS tokens_in, coalesce(sum(tokens_cached), 0)::BIGINT AS tokens_cached,
           coalesce(sum(tokens_out), 0)::BIGINT AS tokens_out,
           coalesce(bool_and(said.counted), bool_and(billed.counted), false) AND coalesce(bool_and(billed.counted), true)
             AS tokens_counted,
           CASE WHEN coalesce(sum(cost_unknown), 0) = 0 THEN coalesce(sum(cost), 0) ELSE sum(cost) END AS cost,
           coalesce(sum(cost_unknown), 0)::BIGINT AS cost_unknown,
           coalesce(sum(failed_attempts), 0)::BIGINT AS failed_attempts
    FROM requests r LEFT JOIN said USING (request_key) LEFT JOIN billed USING (request_key) GROUP BY ALL;

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
    SELECT 'ingest' AS stage, 'row' AS kind,
           s.path || CASE WHEN s.format IN ('csv', 'jsonl', 'lines') THEN ':' ELSE ': row ' END || b.row_no AS item, b.drop_reason, b.detail
           FROM bad_rows b JOIN sources s USING (source_no)
    UNION ALL SELECT 'ingest', 'occurrence', place, leave_reason, split FROM places WHERE NOT kept
    UNION ALL SELECT 'synthesize', 'synthetic', synthetic_no::VARCHAR, drop_reason, detail FROM synthetic WHERE state = 'dropped'
    UNION ALL SELECT p.stage, 'slot', s.plan_no || '/' || s.slot_no, s.drop_reason, s.detail FROM slots s JOIN plans p USING (plan_no) WHERE s.state = 'dropped'
    UNION ALL SELECT 'author', 'program', program_no::VARCHAR, drop_reason, detail FROM programs WHERE state = 'rejected'
    UNION ALL SELECT 'annotate', 'annotation', plan_no || '/' || slot_no, drop_reason, text_no::VARCHAR FROM annotations WHERE label_no IS NULL
    UNION ALL SELECT 'vote', 'vote', program_no || '/' || text_no, status, detail FROM vote_failures
    UNION ALL SELECT 'tune', 'pair', adapter_no || '/' || synthetic_no, drop_reason, NULL FROM adapter_rows WHERE drop_reason IS NOT NULL
    UNION ALL SELECT 'distill', 'row', model_no || '/' || text_no, drop_reason, origin FROM model_rows WHERE drop_reason IS NOT NULL;
