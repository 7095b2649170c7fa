SELECT * FROM payment MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY ts, id
  MEASURES COUNT(d.id) AS tries, FIRST(d.ts) AS s, a.ts AS e
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (d+ a) WITHIN INTERVAL '30' SECOND
  DEFINE d AS d.status = 'declined', a AS a.status = 'approved'
)
