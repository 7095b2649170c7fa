SELECT * FROM payment MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY ts, id
  MEASURES a.id AS a, d.id AS d, e.id AS e
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (a d? e)
  DEFINE a AS a.status = 'approved', d AS d.status = 'declined', e AS e.amount >= 50 AND e.status <> 'declined'
)
