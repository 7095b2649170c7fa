//! Each property of each event as a function of the event's number. Randomness is counter-based: a property hashes
//! the event's number with a constant of its own, so that no property depends on which others are asked for.
//!
//! Of 50 consecutive events the first is a person, the next three are auctions, the rest are bids. Ids are dense and
//! start at 1000. Some auctions, sellers, bidders and channels are hot: chosen far more often, and changing every
//! hundred ids.

use std::sync::LazyLock;

const EVENTS_PER_ROUND: i64 = 50;
const AUCTIONS_PER_ROUND: i64 = 3;
const FIRST_ID: i64 = 1_000;
const FIRST_CATEGORY: i64 = 10;
const CATEGORIES: u64 = 5;
/// Ids between one hot person or auction and the next.
const HOT_STEP: i64 = 100;
/// How far beyond the newest id a chosen id may lie, so that some joins find their partner later.
const ID_LEAD: i64 = 10;
/// Primes, of which one that shuffles the group is the step from each event of an out-of-order group to the next.
const SHUFFLE_STEPS: [i64; 4] = [953, 947, 941, 937];

pub struct Model {
    pub base_micros: i64,
    pub gap_nanos: i64,
    pub event_count: Option<i64>,
    /// Events in a group that is emitted out of order; 1: in order.
    pub shuffle_group: i64,
    pub active_people: i64,
    pub in_flight_auctions: i64,
    pub hot_seller_ratio: i64,
    pub hot_auction_ratio: i64,
    pub hot_bidder_ratio: i64,
    pub hot_channel_ratio: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Person,
    Auction,
    Bid,
}

/// The kind of event `number`.
#[inline]
pub fn kind(number: i64) -> Kind {
    match number % EVENTS_PER_ROUND {
        0 => Kind::Person,
        1..=AUCTIONS_PER_ROUND => Kind::Auction,
        _ => Kind::Bid,
    }
}

/// A random 64-bit value for one property of one event (finaliser of SplitMix64: Steele, Lea, Flood, "Fast Splittable
/// Pseudorandom Number Generators").
#[inline]
fn draw(number: i64, property: u64) -> u64 {
    let mut x = (number as u64).wrapping_mul(16).wrapping_add(property).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A random value maps onto `0..bound` without division (Lemire, "Fast Random Integer Generation in an Interval").
#[inline]
fn below(random: u64, bound: u64) -> u64 {
    ((random as u128 * bound as u128) >> 64) as u64
}

/// Prices spread evenly over six decades, in cents: 100 * 10^(6u). In plain arithmetic, so that every machine
/// gives the same cents: 2^x as a shift by the whole part and a polynomial for the rest.
#[inline]
fn price(random: u64) -> i64 {
    let exponent = (random >> 11) as f64 * (1.0 / (1u64 << 53) as f64) * (6.0 * std::f64::consts::LOG2_10);
    let (whole, x) = (exponent as u32, exponent.fract());
    let power = 1.0
        + x * (std::f64::consts::LN_2
            + x * (0.240_226_5 + x * (0.055_504_11 + x * (0.009_618_13 + x * (0.001_333_56 + x * 0.000_154_03)))));
    (power * (1u64 << whole) as f64 * 100.0 + 0.5) as i64
}

const LETTERS: usize = 1 << 16;
/// The longest text taken from the pool.
const TEXT_MAX: usize = 1 << 10;

/// Random letters that texts are cut from: one draw per text instead of one per letter.
static POOL: LazyLock<Vec<u8>> = LazyLock::new(|| (0..(LETTERS + TEXT_MAX) as i64).map(|i| b'a' + below(draw(i, 15), 26) as u8).collect());

fn letters(random: u64, len: usize, out: &mut Vec<u8>) {
    let start = random as usize % LETTERS;
    out.extend_from_slice(&POOL[start..start + len]);
}

/// Filler text of about `average` bytes, a fifth more or less.
fn filler(random: u64, average: usize, out: &mut Vec<u8>) {
    let spread = average / 5;
    letters(random, average - spread + below(random.rotate_left(32), 2 * spread as u64) as usize, out);
}

const FIRST_NAMES: [&str; 11] = ["Ada", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Hugo", "Iris", "Jonas", "Karla"];
const LAST_NAMES: [&str; 9] = ["Adler", "Brook", "Carter", "Dahl", "Ebert", "Fisher", "Grant", "Holm", "Ives"];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const CHANNELS: u64 = 10_000;

/// (channel, url) of every channel: the hot ones first.
static CHANNEL_URLS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let path = |index: i64| {
        let mut path = b"https://www.nexmark.com/".to_vec();
        for part in 0..3 {
            letters(draw(index, part), 3 + below(draw(index, part + 3), 3) as usize, &mut path);
            path.push(b'/');
        }
        String::from_utf8_lossy(&path).into_owned() + "item.htm?query=1"
    };
    let hot = HOT_CHANNELS.iter().enumerate().map(|(i, name)| (name.to_string(), path(i as i64)));
    let others = (0..CHANNELS as i64).map(|i| {
        let id = if !draw(i, 6).is_multiple_of(10) { format!("&channel_id={}", draw(i, 7) >> 33) } else { String::new() };
        (format!("channel-{i}"), path(i + HOT_CHANNELS.len() as i64) + &id)
    });
    hot.chain(others).collect()
});

fn one_of<'a>(choices: &[&'a str], random: u64) -> &'a str {
    choices[below(random, choices.len() as u64) as usize]
}

/// Base-0 id of the newest person at event `number`.
#[inline]
fn newest_person(number: i64) -> i64 {
    number / EVENTS_PER_ROUND
}

/// Base-0 id of the newest auction at event `number`; before the first, that one.
#[inline]
fn newest_auction(number: i64) -> i64 {
    (number / EVENTS_PER_ROUND * AUCTIONS_PER_ROUND + (number % EVENTS_PER_ROUND).min(AUCTIONS_PER_ROUND) - 1).max(0)
}

impl Model {
    /// The event emitted at place `place` of the whole stream.
    #[inline]
    pub fn number_at(&self, place: i64) -> i64 {
        let group = self.shuffle_group;
        if group == 1 {
            return place;
        }
        let start = place / group * group;
        if self.event_count.is_some_and(|count| start + group > count) {
            return place; // the last, incomplete group keeps its order
        }
        let step = SHUFFLE_STEPS.into_iter().find(|step| group % step != 0 && step % group != 1).unwrap_or(SHUFFLE_STEPS[0]);
        start + place % group * step % group
    }

    #[inline]
    pub fn date_time(&self, number: i64) -> i64 {
        let micros = number.saturating_mul(self.gap_nanos / 1_000).saturating_add(number * (self.gap_nanos % 1_000) / 1_000);
        self.base_micros.saturating_add(micros)
    }

    pub fn person_id(&self, number: i64) -> i64 {
        newest_person(number) + FIRST_ID
    }

    /// One of the recently active people, or one about to come.
    fn any_person(&self, number: i64, random: u64) -> i64 {
        let people = newest_person(number) + 1;
        let active = people.min(self.active_people);
        people - active + below(random, (active + ID_LEAD) as u64) as i64
    }

    pub fn auction_id(&self, number: i64) -> i64 {
        newest_auction(number) + FIRST_ID
    }

    pub fn initial_bid(&self, number: i64) -> i64 {
        price(draw(number, 0))
    }

    pub fn reserve(&self, number: i64) -> i64 {
        price(draw(number, 0)) + price(draw(number, 1))
    }

    /// Auctions live twice the time in which as many begin as are in flight, at most; that many on average.
    pub fn expires(&self, number: i64) -> i64 {
        let horizon = self.date_time(number + self.in_flight_auctions * EVENTS_PER_ROUND / AUCTIONS_PER_ROUND) - self.date_time(number);
        self.date_time(number) + 1_000 + below(draw(number, 2), (horizon as u64 * 2).max(1)) as i64
    }

    pub fn seller(&self, number: i64) -> i64 {
        let hot = below(draw(number, 3), self.hot_seller_ratio as u64) > 0;
        let seller = if hot { newest_person(number) / HOT_STEP * HOT_STEP } else { self.any_person(number, draw(number, 4)) };
        seller + FIRST_ID
    }

    pub fn category(&self, number: i64) -> i64 {
        FIRST_CATEGORY + below(draw(number, 5), CATEGORIES) as i64
    }

    pub fn bid_auction(&self, number: i64) -> i64 {
        let newest = newest_auction(number);
        let hot = below(draw(number, 0), self.hot_auction_ratio as u64) > 0;
        let auction = if hot {
            newest / HOT_STEP * HOT_STEP
        } else {
            let oldest = (newest - self.in_flight_auctions).max(0);
            oldest + below(draw(number, 1), (newest - oldest + 1 + ID_LEAD) as u64) as i64
        };
        auction + FIRST_ID
    }

    pub fn bidder(&self, number: i64) -> i64 {
        let hot = below(draw(number, 2), self.hot_bidder_ratio as u64) > 0;
        // One beside the hot seller, so that they are two.
        let bidder = if hot { newest_person(number) / HOT_STEP * HOT_STEP + 1 } else { self.any_person(number, draw(number, 3)) };
        bidder + FIRST_ID
    }

    pub fn price(&self, number: i64) -> i64 {
        price(draw(number, 4))
    }

    fn channel_url(&self, number: i64) -> &'static (String, String) {
        let hot = below(draw(number, 5), self.hot_channel_ratio as u64) > 0;
        let index = match hot {
            true => below(draw(number, 6), HOT_CHANNELS.len() as u64),
            false => HOT_CHANNELS.len() as u64 + below(draw(number, 6), CHANNELS),
        };
        &CHANNEL_URLS[index as usize]
    }

    pub fn channel(&self, number: i64, out: &mut Vec<u8>) {
        out.extend_from_slice(self.channel_url(number).0.as_bytes());
    }

    pub fn url(&self, number: i64, out: &mut Vec<u8>) {
        out.extend_from_slice(self.channel_url(number).1.as_bytes());
    }

    pub fn bid_extra(&self, number: i64, out: &mut Vec<u8>) {
        filler(draw(number, 7), 68, out);
    }

    pub fn item_name(&self, number: i64, out: &mut Vec<u8>) {
        letters(draw(number, 6), 20, out);
    }

    pub fn description(&self, number: i64, out: &mut Vec<u8>) {
        letters(draw(number, 7), 100, out);
    }

    pub fn auction_extra(&self, number: i64, out: &mut Vec<u8>) {
        filler(draw(number, 8), 332, out);
    }

    pub fn name(&self, number: i64, out: &mut Vec<u8>) {
        out.extend_from_slice(one_of(&FIRST_NAMES, draw(number, 0)).as_bytes());
        out.push(b' ');
        out.extend_from_slice(one_of(&LAST_NAMES, draw(number, 1)).as_bytes());
    }

    pub fn email_address(&self, number: i64, out: &mut Vec<u8>) {
        letters(draw(number, 2), 7, out);
        out.push(b'@');
        letters(draw(number, 3), 5, out);
        out.extend_from_slice(b".com");
    }

    pub fn credit_card(&self, number: i64, out: &mut Vec<u8>) {
        let mut digits = draw(number, 4) % 10_000_000_000_000_000;
        for place in 0..19 {
            if place % 5 == 4 {
                out.push(b' ');
            } else {
                out.push(b'0' + (digits % 10) as u8);
                digits /= 10;
            }
        }
    }

    pub fn city(&self, number: i64, out: &mut Vec<u8>) {
        out.extend_from_slice(one_of(&CITIES, draw(number, 5)).as_bytes());
    }

    pub fn state(&self, number: i64, out: &mut Vec<u8>) {
        out.extend_from_slice(one_of(&STATES, draw(number, 6)).as_bytes());
    }

    pub fn person_extra(&self, number: i64, out: &mut Vec<u8>) {
        filler(draw(number, 7), 120, out);
    }
}
