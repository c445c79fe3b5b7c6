//! Replays captures (a placeholder until the story is told).
use ftp_conntrack::{capture::Reader, config::Directory, replay::*, router::Router};
struct Show(usize);
impl Sink for Show {
    fn event(&mut self, f: u64, _t: ftp_conntrack::Instant, e: &ftp_conntrack::event::Event, _: &Router) {
        if std::env::var("EV").is_ok() {
            println!("#{f} {e:?}")
        }
    }
    fn packet(&mut self, p: Seen<'_>, v: ftp_conntrack::router::Verdict, r: &Router) {
        if std::env::var("EV").is_ok() {
            println!("#{} {v:?}", p.frame);
            if let Some(c) = r.conntrack().iter(p.time).find(|(_, c)| c.protocol().0 == 6) {
                let _ = c;
            }
        }
    }
    fn differs(&mut self, d: &Difference, _: &Router) {
        if self.0 > 0 {
            self.0 -= 1;
            println!(
                "  {:?} arrived {:?} left {:?}\n   ours   {:02x?}\n   theirs {:02x?}",
                d.kind, d.arrived, d.left, d.ours, d.theirs
            )
        }
    }
    fn table_differs(&mut self, d: &TableDifference) {
        if self.0 > 0 {
            self.0 -= 1;
            println!("  {d}")
        }
    }
}
fn main() {
    let n: usize = std::env::var("SHOW").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    for d in std::env::args().skip(1) {
        let dir = Directory::read(d.as_ref()).unwrap();
        let mut r = Reader::open(dir.capture.clone().unwrap()).unwrap();
        let mut o = Options::default();
        o.verify = true;
        let mut p = Replay::new(&dir, o).unwrap();
        let s = p.run(&mut r, &mut Show(n));
        println!("{} {d} {s}", if s.agrees() { "ok  " } else { "DIFF" });
    }
}
