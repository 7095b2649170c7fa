//! Rows for TPC-H's tables, and changes to them, as statements that any SQL database takes: small, the same for a seed, and skewed so
//! that every query finds something. Texts are of the benchmark's kind, not its grammar.

use arrow::temporal_conversions::date32_to_datetime;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const REGIONS: [&str; 5] = ["AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"];
/// Name and region, in the order of their keys.
const NATIONS: [(&str, i32); 25] = [
    ("ALGERIA", 0),
    ("ARGENTINA", 1),
    ("BRAZIL", 1),
    ("CANADA", 1),
    ("EGYPT", 4),
    ("ETHIOPIA", 0),
    ("FRANCE", 3),
    ("GERMANY", 3),
    ("INDIA", 2),
    ("INDONESIA", 2),
    ("IRAN", 4),
    ("IRAQ", 4),
    ("JAPAN", 2),
    ("JORDAN", 4),
    ("KENYA", 0),
    ("MOROCCO", 0),
    ("MOZAMBIQUE", 0),
    ("PERU", 1),
    ("CHINA", 2),
    ("ROMANIA", 3),
    ("SAUDI ARABIA", 4),
    ("VIETNAM", 2),
    ("RUSSIA", 3),
    ("UNITED KINGDOM", 3),
    ("UNITED STATES", 1),
];
/// Where suppliers and customers live: few nations, so that they meet.
const INHABITED: [i32; 7] = [2, 3, 6, 7, 8, 12, 18];
const SUPPLIERS: i32 = 20;
const PARTS: i32 = 100;
const SUPPLIERS_PER_PART: i32 = 4;
const CUSTOMERS: i32 = 120;
const ORDERS: i32 = 500;
const ORDERS_PER_ROUND: i32 = 25;
/// 1993-01-01 and how many days orders come in.
const FIRST_DAY: i32 = 8_401;
const DAYS: i32 = 4 * 365;

pub struct Data {
    random: StdRng,
    next_order: i32,
    /// Orders there are, with how many lines each has.
    orders: Vec<(i32, i32)>,
}

fn date(day: i32) -> String {
    date32_to_datetime(day).expect("a day of the century").date().to_string()
}

/// Hundredths as a decimal.
fn decimal(hundredths: i64) -> String {
    format!("{}{}.{:02}", if hundredths < 0 { "-" } else { "" }, hundredths.abs() / 100, hundredths.abs() % 100)
}

fn insert(table: &str, rows: &[String]) -> String {
    format!("INSERT INTO {table} VALUES {}", rows.join(", "))
}

impl Data {
    pub fn new(seed: u64) -> Data {
        Data { random: StdRng::seed_from_u64(seed), next_order: 1, orders: Vec::new() }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(&mut self.random).expect("a choice")
    }

    fn below(&mut self, n: i32) -> i32 {
        self.random.random_range(0..n)
    }

    fn money(&mut self, from: i64, to: i64) -> String {
        decimal(self.random.random_range(from..to))
    }

    fn phone(&mut self, nation: i32) -> String {
        format!("{}-{}-{}", nation + 10, self.random.random_range(100..1000), self.random.random_range(1000..10_000))
    }

    /// Everything but what comes with the rounds.
    pub fn initial(&mut self) -> Vec<String> {
        let regions: Vec<String> = REGIONS.iter().enumerate().map(|(key, name)| format!("({key}, '{name}', 'of regions')")).collect();
        let nations: Vec<String> =
            NATIONS.iter().enumerate().map(|(key, (name, region))| format!("({key}, '{name}', {region}, NULL)")).collect();
        let suppliers: Vec<String> = (1..=SUPPLIERS).map(|key| self.supplier(key)).collect();
        let parts: Vec<String> = (1..=PARTS).map(|key| self.part(key)).collect();
        let supplies: Vec<String> =
            (1..=PARTS).flat_map(|part| (0..SUPPLIERS_PER_PART).map(move |i| (part, i))).map(|(p, i)| self.supply(p, i)).collect();
        let customers: Vec<String> = (1..=CUSTOMERS).map(|key| self.customer(key)).collect();
        let mut statements = vec![
            insert("region", &regions),
            insert("nation", &nations),
            insert("supplier", &suppliers),
            insert("part", &parts),
            insert("partsupp", &supplies),
            insert("customer", &customers),
        ];
        statements.extend(self.new_orders(ORDERS));
        statements
    }

    fn supplier(&mut self, key: i32) -> String {
        let nation = self.pick(&INHABITED);
        let phone = self.phone(nation);
        let balance = self.money(-99_999, 999_999);
        let comment = if self.below(6) == 0 { "many a Customer had Complaints" } else { "sleeps quickly" };
        format!("({key}, 'Supplier#{key:09}', 'address {key}', {nation}, '{phone}', {balance}, '{comment}')")
    }

    fn part(&mut self, key: i32) -> String {
        let words = ["green", "forest", "ivory", "misty"];
        let name = format!("{} {} {key}", self.pick(&words), self.pick(&words));
        let brand = self.pick(&[12, 23, 34, 45]);
        let kind = format!(
            "{} {} {}",
            self.pick(&["ECONOMY", "PROMO", "MEDIUM"]),
            self.pick(&["POLISHED", "BURNISHED"]),
            self.pick(&["BRASS", "STEEL"])
        );
        let size = self.random.random_range(1..=50);
        let container = self.pick(&["SM CASE", "SM BOX", "MED BAG", "MED BOX", "LG CASE", "LG PACK"]);
        format!(
            "({key}, '{name}', 'Manufacturer#{}', 'Brand#{brand}', '{kind}', {size}, '{container}', {}, NULL)",
            brand / 10,
            decimal(90_000 + 100 * i64::from(key))
        )
    }

    fn supply(&mut self, part: i32, i: i32) -> String {
        let supplier = (part + i * (SUPPLIERS / SUPPLIERS_PER_PART)) % SUPPLIERS + 1;
        format!("({part}, {supplier}, {}, {}, 'furiously')", self.random.random_range(1..1000), self.money(100, 100_000))
    }

    fn customer(&mut self, key: i32) -> String {
        let nation = self.pick(&INHABITED);
        let phone = self.phone(nation);
        let balance = self.money(-99_999, 999_999);
        let segment = self.pick(&["BUILDING", "MACHINERY", "FURNITURE"]);
        format!("({key}, 'Customer#{key:09}', 'street {key}', {nation}, '{phone}', {balance}, '{segment}', 'carefully')")
    }

    /// A third of the customers never orders.
    fn ordering_customer(&mut self) -> i32 {
        let key = self.below(CUSTOMERS) + 1;
        if key % 3 == 0 { key - 1 } else { key }
    }

    fn new_orders(&mut self, count: i32) -> Vec<String> {
        let (mut orders, mut lines) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let key = self.next_order;
            self.next_order += 1;
            let day = FIRST_DAY + self.below(DAYS);
            let of_order = self.random.random_range(1..=7);
            self.orders.push((key, of_order));
            let customer = self.ordering_customer();
            let status = self.pick(&["F", "F", "O", "P"]);
            let price = self.money(100_000, 40_000_000);
            let priority = self.pick(&["1-URGENT", "2-HIGH", "3-MEDIUM", "5-LOW"]);
            let comment = if self.below(8) == 0 { "special pending requests" } else { "slyly" };
            orders.push(format!("({key}, {customer}, '{status}', {price}, '{}', '{priority}', 'Clerk#1', 0, '{comment}')", date(day)));
            for line in 1..=of_order {
                let row = self.line(key, line, day);
                lines.push(row);
            }
        }
        vec![insert("orders", &orders), insert("lineitem", &lines)]
    }

    fn line(&mut self, order: i32, line: i32, day: i32) -> String {
        let part = self.below(PARTS) + 1;
        let i = self.below(SUPPLIERS_PER_PART);
        let supplier = (part + i * (SUPPLIERS / SUPPLIERS_PER_PART)) % SUPPLIERS + 1;
        let quantity = self.random.random_range(1..=50i64);
        let price = decimal(quantity * (90_000 + 100 * i64::from(part)));
        let (discount, tax) = (decimal(self.below(11).into()), decimal(self.below(9).into()));
        let ship = day + self.random.random_range(1..=121);
        let commit = day + self.random.random_range(30..=90);
        let receipt = ship + self.random.random_range(1..=30);
        let flag = self.pick(&["R", "A", "N"]);
        let status = self.pick(&["O", "F"]);
        let instruction = self.pick(&["DELIVER IN PERSON", "NONE"]);
        let mode = self.pick(&["AIR", "REG AIR", "MAIL", "SHIP"]);
        format!(
            "({order}, {part}, {supplier}, {line}, {quantity}, {price}, {discount}, {tax}, '{flag}', '{status}', '{}', '{}', '{}', \
             '{instruction}', '{mode}', NULL)",
            date(ship),
            date(commit),
            date(receipt)
        )
    }

    /// A round: new orders, changes of every table, and orders that go.
    pub fn changes(&mut self) -> Vec<String> {
        let mut statements = self.new_orders(ORDERS_PER_ROUND);
        for _ in 0..6 {
            let at = self.below(self.orders.len() as i32) as usize;
            let (order, lines) = self.orders[at];
            let line = self.below(lines) + 1;
            let (quantity, discount) = (self.random.random_range(1..=50), decimal(self.below(11).into()));
            statements.push(format!(
                "UPDATE lineitem SET l_quantity = {quantity}, l_discount = {discount}, l_receiptdate = l_receiptdate + INTERVAL '1' DAY \
                 WHERE l_orderkey = {order} AND l_linenumber = {line}"
            ));
            let (customer, status) = (self.ordering_customer(), self.pick(&["F", "O"]));
            statements.push(format!("UPDATE orders SET o_custkey = {customer}, o_orderstatus = '{status}' WHERE o_orderkey = {order}"));
        }
        let (customer, nation) = (self.below(CUSTOMERS) + 1, self.pick(&INHABITED));
        let (phone, balance) = (self.phone(nation), self.money(-99_999, 999_999));
        statements.push(format!(
            "UPDATE customer SET c_nationkey = {nation}, c_phone = '{phone}', c_acctbal = {balance} WHERE c_custkey = {customer}"
        ));
        let (supplier, nation, comment) =
            (self.below(SUPPLIERS) + 1, self.pick(&INHABITED), self.pick(&["no Customer, no Complaints", "fluffily"]));
        statements.push(format!("UPDATE supplier SET s_nationkey = {nation}, s_comment = '{comment}' WHERE s_suppkey = {supplier}"));
        let (part, size) = (self.below(PARTS) + 1, self.random.random_range(1..=50));
        statements.push(format!("UPDATE part SET p_size = {size}, p_name = 'forest green {part}' WHERE p_partkey = {part}"));
        let cost = self.money(100, 100_000);
        statements.push(format!("UPDATE partsupp SET ps_supplycost = {cost}, ps_availqty = ps_availqty + 1 WHERE ps_partkey = {part}"));
        for _ in 0..10 {
            let at = self.below(self.orders.len() as i32) as usize;
            let (order, _) = self.orders.swap_remove(at);
            statements.push(format!("DELETE FROM lineitem WHERE l_orderkey = {order}"));
            statements.push(format!("DELETE FROM orders WHERE o_orderkey = {order}"));
        }
        let customer = self.below(CUSTOMERS) + 1;
        statements.push(format!("DELETE FROM customer WHERE c_custkey = {customer}"));
        statements
    }
}
