SELECT p.id, p.currency, p.amount * r.rate AS amount, r.ts AS since
FROM purchases AS p JOIN rates FOR SYSTEM_TIME AS OF p.ts AS r ON p.currency = r.currency
