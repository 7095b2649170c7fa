SELECT * FROM payment MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY ts, id
  MEASURES FIRST(a.id) AS a, b.amount AS b, c.ts AS c
  ONE ROW PER MATCH
  AFTER MATCH SKIP TO NEXT ROW
  PATTERN (a b c)
  DEFINE c AS c.amount > a.amount + b.amount
)
