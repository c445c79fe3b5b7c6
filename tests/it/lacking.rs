//! Captures that lack packets: real dialogues with parts of the capture taken away, as a capturing program that cannot keep
//! up takes them. What is left must still be found to agree, and nothing may be made up where nothing is missing.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use ftp_conntrack::capture::Reader;
use ftp_conntrack::config::Directory;
use ftp_conntrack::replay::{Difference, Lacking, Options, Replay, Sink, Summary, TableDifference};
use ftp_conntrack::router::Router;

/// The header of a capture file, and of a record in it.
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// So many captures are made of each recording; `LACKING_SEEDS` asks for more, and `LACKING_ALL` for every place at which a
/// capture can begin.
const SEEDS: u64 = 5;
/// So many frames are lost at once.
const BLOCK: usize = 8;

/// A capture in the old format, in records.
struct Capture {
    header: Vec<u8>,
    records: Vec<Vec<u8>>,
}

impl Capture {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        assert_eq!(bytes[..4], [0xd4, 0xc3, 0xb2, 0xa1], "{}: little-endian, in microseconds", path.display());
        let (header, mut rest) = bytes.split_at(FILE_HEADER);
        let mut records = Vec::new();
        while let Some(length) = rest.get(8..12) {
            let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
            let (record, others) = rest.split_at(RECORD_HEADER + length);
            records.push(record.to_vec());
            rest = others;
        }
        Self { header: header.to_vec(), records }
    }

    /// The places before which all that arrived has left: by the packet type in LINUX_SLL2 headers, which is 4 for those
    /// that leave.
    fn quiet_places(&self) -> Vec<usize> {
        let mut waiting = 0;
        let mut places = vec![0];
        for (at, record) in self.records.iter().enumerate() {
            waiting += if record[RECORD_HEADER + 10] == 4 { -1 } else { 1 };
            places.extend((waiting == 0).then_some(at + 1));
        }
        places
    }

    /// The file without the records for which `is_lost` holds.
    fn without(&self, is_lost: impl Fn(usize) -> bool) -> Vec<u8> {
        let kept = self.records.iter().enumerate().filter(|(at, _)| !is_lost(*at)).flat_map(|(_, record)| record);
        self.header.iter().chain(kept).copied().collect()
    }
}

#[derive(Default)]
struct Told {
    differences: Vec<String>,
    lacking: Vec<(u64, Lacking)>,
}

impl Sink for Told {
    fn differs(&mut self, difference: &Difference, _: &Router) {
        self.differences.push(format!("{:?} {:?} {:?}", difference.kind, difference.arrived, difference.left));
    }

    fn table_differs(&mut self, difference: &TableDifference) {
        self.differences.push(difference.to_string());
    }

    fn lacks(&mut self, frame: u64, _: ftp_conntrack::Instant, lacking: Lacking) {
        self.lacking.push((frame, lacking));
    }
}

fn live() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/live");
    let mut found: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn verify(path: &Path, capture: Vec<u8>, adopt: bool) -> (Summary, Told) {
    let directory = Directory::read(path).unwrap();
    let mut options = Options::default();
    options.verify = true;
    options.adopt = adopt;
    let mut told = Told::default();
    let mut reader = Reader::new(Cursor::new(capture)).unwrap();
    let summary = Replay::new(&directory, options).unwrap().run(&mut reader, &mut told);
    (summary, told)
}

/// A xorshift generator, for seeds that are not zero.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as usize % bound
    }
}

/// A recording whose router has other rules than the kernel had that was recorded.
fn with_other_rules(name: &str, from: &str, to: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/live").join(name);
    let other = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("lacking-{name}-{}", to.len()));
    let _ = fs::remove_dir_all(&other);
    fs::create_dir_all(&other).unwrap();
    for file in fs::read_dir(&path).unwrap() {
        let file = file.unwrap();
        fs::write(other.join(file.file_name()), fs::read(file.path()).unwrap()).unwrap();
    }
    let rules = fs::read_to_string(path.join("rules.v4")).unwrap();
    assert!(rules.contains(from));
    fs::write(other.join("rules.v4"), rules.replace(from, to)).unwrap();
    other
}

/// Rules by which a client would get another address or port than it did.
fn wrong_rules() -> [PathBuf; 2] {
    let wrong = |to: &str| with_other_rules("vsftpd-curl-eprt-masquerade", "-j MASQUERADE", to);
    [wrong("-j SNAT --to-source 203.0.113.77"), wrong("-p tcp -j MASQUERADE --to-ports 3000-3100")]
}

#[test]
fn wrong_rules_are_not_made_good() {
    for path in wrong_rules() {
        let capture = Capture::read(&path.join("router.pcap"));
        for adopt in [false, true] {
            let (summary, told) = verify(&path, capture.without(|_| false), adopt);
            assert!(summary.differ > 10 && summary.table_lines > 0, "{}: {summary}", path.display());
            assert_eq!(told.lacking, []);
        }
        // Neither where a packet is missing somewhere.
        let places = capture.quiet_places();
        let pairs = places.windows(2).filter(|pair| pair[1] - pair[0] == 2 && pair[0] > 0);
        for pair in pairs {
            let (summary, _) = verify(&path, capture.without(|at| (pair[0]..pair[1]).contains(&at)), false);
            assert!(summary.differ > 10, "{} without {pair:?}: {summary}", path.display());
        }
    }
}

#[test]
fn a_capture_that_lacks_some_blocks_of_frames_agrees() {
    let mut failed = Vec::new();
    let (mut tried, mut supplied) = (0, 0);
    for path in live() {
        let capture = Capture::read(&path.join("router.pcap"));
        let places = capture.quiet_places();
        for seed in 1..=std::env::var("LACKING_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap()) {
            let mut random = Random(seed);
            let blocks: Vec<usize> = (0..1 + random.below(3)).map(|_| places[random.below(places.len())]).collect();
            let blocks: Vec<usize> = blocks.into_iter().filter(|block| places.contains(&(block + BLOCK))).collect();
            let lost = capture.without(|at| blocks.iter().any(|block| (*block..block + BLOCK).contains(&at)));
            let (summary, told) = verify(&path, lost, false);
            tried += 1;
            supplied += summary.supplied;
            if !summary.agrees() {
                failed.push(format!(
                    "{} seed {seed}: {summary}\n  {:?}\n  {:?}",
                    path.display(),
                    told.differences,
                    told.lacking
                ));
            }
        }
    }
    assert!(supplied > 5_000, "{supplied}");
    assert!(failed.is_empty(), "{} of {tried}:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn a_capture_that_begins_later_is_adopted() {
    let mut failed = Vec::new();
    let (mut tried, mut adopted) = (0, 0);
    for path in live() {
        let capture = Capture::read(&path.join("router.pcap"));
        let places = capture.quiet_places();
        let many = if std::env::var_os("LACKING_ALL").is_some() { 1 } else { 5 };
        for place in places.into_iter().skip(1).step_by(many).filter(|place| *place < capture.records.len() - BLOCK) {
            let (summary, told) = verify(&path, capture.without(|at| at < place), true);
            tried += 1;
            adopted += summary.adopted;
            if !summary.agrees() {
                failed.push(format!(
                    "{} from {place}: {summary}\n  {:?}\n  {:?}",
                    path.display(),
                    told.differences,
                    told.lacking
                ));
            }
        }
    }
    assert!(adopted > 100, "{adopted}");
    assert!(failed.is_empty(), "{} of {tried}:\n{}", failed.len(), failed.join("\n"));
}
