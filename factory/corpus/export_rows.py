"""The query behind a data export: one row per gold occurrence, labelled training text and synthetic text."""

from __future__ import annotations

from factory.warehouse.tables.gold import KEPT_ROWS

ROWS = f"""
CREATE OR REPLACE TEMP TABLE export_rows AS
WITH chosen AS (SELECT max(label_model_no) AS no FROM label_models WHERE chosen),
names AS (SELECT list(name ORDER BY label_no) AS all_names, count(*) AS n FROM labels),
learned AS (
    SELECT text_no, max(weight) AS weight FROM model_rows
    WHERE model_no = (SELECT max(model_no) FROM models WHERE system = 'student') GROUP BY text_no),
hot AS (
    SELECT label_no, [CASE WHEN i = label_no THEN 1.0::FLOAT ELSE 0.0::FLOAT END
                      FOR i IN range((SELECT n FROM names))] AS probs FROM labels),
found AS (
    SELECT text_no, list(place ORDER BY source_no, row_no) AS sources, first(fields ORDER BY source_no, row_no) AS own
    FROM places WHERE kept AND split = 'train' GROUP BY text_no),
shown AS (
    SELECT synthetic_no, list('demonstration:' || lower(hex(content_hash)) ORDER BY content_hash) AS demos
    FROM (SELECT synthetic_no, unnest(demo_text_nos) AS text_no FROM synthetic) JOIN texts USING (text_no)
    GROUP BY synthetic_no),
rows AS (
    SELECT g.split, t.text_no, t.text, t.fields, g.label_nos, 'gold' AS label_origin,
           [CASE WHEN list_contains(g.label_nos, i) THEN 1.0::FLOAT ELSE 0.0::FLOAT END
            FOR i IN range((SELECT n FROM names))] AS probs,
           'real' AS origin, NULL::INTEGER AS synthetic_no, NULL::VARCHAR AS drop_reason,
           g.source_no AS first_order, g.row_no AS second_order, [o.place] AS sources, o.fields AS own
    FROM {KEPT_ROWS} g JOIN places o USING (source_no, row_no, text_no) JOIN texts t USING (text_no)
    UNION ALL
    SELECT 'train', t.text_no, t.text, t.fields,
           CASE WHEN $multi THEN [i FOR i IN range(len(s.probs)) IF coalesce(s.probs[i + 1], 0) >= 0.5]
                ELSE [list_position(s.probs, list_max(s.probs)) - 1] END,
           'label model', s.probs, 'real', NULL, CASE WHEN s.covered THEN NULL ELSE 'uncovered' END, 0, t.text_no,
           found.sources, found.own
    FROM (SELECT DISTINCT text_no FROM split_texts WHERE split = 'train')
         JOIN (SELECT s.* FROM soft_labels s, chosen WHERE s.label_model_no = chosen.no) s USING (text_no)
         JOIN texts t USING (text_no) JOIN found USING (text_no)
    UNION ALL
    SELECT 'train', s.text_no, s.text, NULL, [s.label_no], 'asked for', hot.probs, 'synthetic', s.synthetic_no,
           s.drop_reason, 1000000 + s.plan_no, s.synthetic_no, [], NULL
    FROM synthetic s JOIN hot USING (label_no))
SELECT r.split, substr(sha256(r.text), 1, 32) AS id, r.text, r.fields,
       list_transform(r.label_nos, lambda i: names.all_names[i + 1]) AS labels, r.label_origin, r.probs AS soft_label,
       CASE WHEN r.drop_reason IS NOT NULL THEN 0.0 ELSE coalesce(l.weight, 1.0) END::FLOAT AS weight, r.origin, s.method,
       list_concat(
           CASE WHEN seed.text_no IS NULL THEN [] ELSE ['seed:' || lower(hex(seed.content_hash))] END,
           CASE WHEN passage.text_no IS NULL THEN [] ELSE ['passage:' || lower(hex(passage.content_hash))] END,
           coalesce(shown.demos, []))::VARCHAR[] AS parents,
       coalesce(passage.text, seed.text) AS source_text, q.model, q.prompt, s.prompt_version, s.request_key, s.sample_no,
       r.sources::VARCHAR[] AS sources, r.own, r.drop_reason, r.first_order, r.second_order, r.text_no, r.label_nos
FROM rows r CROSS JOIN names
     LEFT JOIN learned l ON l.text_no = r.text_no
     LEFT JOIN synthetic s ON s.synthetic_no = r.synthetic_no
     LEFT JOIN shown ON shown.synthetic_no = r.synthetic_no
     LEFT JOIN texts seed ON seed.text_no = s.seed_text_no
     LEFT JOIN texts passage ON passage.text_no = s.passage_text_no
     LEFT JOIN (SELECT request_key, min(model) AS model, min(prompt) AS prompt FROM requests GROUP BY request_key) q
          ON q.request_key = s.request_key
"""
"""Makes the temporary table `export_rows`. Takes the parameter `multi`."""

COLUMNS = (
    "id", "label_origin", "soft_label", "weight", "origin", "method", "parents", "source_text", "model", "prompt",
    "prompt_version", "request_key", "sample_no", "sources", "drop_reason",
)  # fmt: skip
"""What stands after text and label, in this order. `sources`: FILE:LINE of every row of the text."""
