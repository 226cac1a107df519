//! Every bit of every file of a store: refused by name, harmless, or (in the last group before an unclean stop alone)
//! a cut tail; never other data without a word.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use queue_broker::fs::Disk;
use queue_broker::fs::sim::{SimDisk, SimOptions};
use queue_broker::log::{LogError, Then, verify};
use queue_broker::node::identity::{IDENTITY_COPY_FILE, IDENTITY_FILE, Identity, IdentityError};
use queue_broker::node::{LOG_DIR, SNAPSHOTS_DIR};
use queue_broker::snapshots::Snapshots;

use crate::store::{Kept, Script, Store, View, dir, format, identity, options};
use crate::{run, setting, tell};

#[derive(Debug, Default)]
struct Outcomes {
    refused: u64,
    harmless: u64,
    cut: u64,
    /// Named by `store verify`, though a node starts with it.
    met: u64,
}

/// What a file is for, which is what its bits are counted under.
fn kind_of(path: &Path) -> &'static str {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match path.extension().and_then(|kind| kind.to_str()) {
        Some("log") => "segment",
        Some("import") => "sparse",
        Some("snapshot") => "snapshot",
        _ if name.starts_with("IDENTITY") => "identity",
        _ => "other",
    }
}

/// Outside: why it does not open; inside: what it holds, or what is met when it is read.
async fn read(disk: &SimDisk, kept: &Kept) -> Result<Result<View, String>, String> {
    let store = Store::open(disk).await.map_err(|error| error.to_string())?;
    let text = |error: LogError| error.to_string();
    let read = || {
        assert_eq!(store.identity, identity());
        let file = store.snapshots.newest().ok_or("the snapshot is gone without a word")?;
        assert_eq!(file.read_state().map_err(|error| error.to_string())?, kept.state);
        kept.check(&store.log).map_err(text)?;
        View::of(&store).map_err(text)
    };
    let read = read();
    store.kill(disk);
    // Nothing above waits: the log's tasks end now.
    tokio::task::yield_now().await;
    Ok(read)
}

/// What `store verify` says of the same: whether a node refuses to start, and whether it would meet damage later.
fn verified(disk: &SimDisk) -> (bool, bool) {
    let boot: Arc<dyn Disk> = disk.boot();
    let identity = Identity::read(&*boot, dir());
    let snapshot = Snapshots::verify(&*boot, &dir().join(SNAPSHOTS_DIR));
    let upto = snapshot.as_ref().ok().and_then(|newest| Some(newest.as_ref()?.last.index));
    let report = verify(&boot, &dir().join(LOG_DIR), options().seed, upto).expect("no fault is planned");
    let says = |then| report.findings.iter().any(|finding| finding.then == then);
    (identity.is_err() || snapshot.is_err() || says(Then::Refused), says(Then::Met))
}

async fn flip_all(sealed: bool, stride: usize, outcomes: &mut BTreeMap<&'static str, Outcomes>) {
    let disk = SimDisk::new(SimOptions::default());
    format(&disk).await;
    let store = Store::open(&disk).await.expect("a store that was just made");
    let mut script = Script::new(store, 5);
    script.run().await.expect("nothing fails");
    let kept = script.kept.last().expect("it made snapshots").clone();
    if sealed {
        script.store.close().await;
    } else {
        script.store.kill(&disk);
    }
    let image = disk.image();
    let intact = read(&disk, &kept).await.expect("it opens").expect("nothing is flipped");
    disk.restore(&image);
    for file in disk.files() {
        disk.restore(&image);
        let size = disk.bytes(&file).expect("it is there").len();
        for bit in (0..size * 8).step_by(stride) {
            disk.restore(&image);
            disk.flip(&file, bit as u64).expect("it is there");
            let place = format!("{} byte {} bit {}", file.display(), bit / 8, bit % 8);
            let outcome = outcomes.entry(kind_of(&file)).or_default();
            let (refuses, meets) = verified(&disk);
            let opened = read(&disk, &kept).await;
            assert_eq!(opened.is_err(), refuses, "{place}: {opened:?}, and verify says otherwise");
            assert!(!matches!(opened, Ok(Err(_))) || meets, "{place}: {opened:?}, and verify is content");
            outcome.met += u64::from(meets);
            match opened.and_then(|read| read) {
                Ok(view) if view == intact => outcome.harmless += 1,
                Ok(view) => {
                    assert!(!sealed, "{place}: silently different");
                    let left = view.entries.len();
                    assert!(
                        left < intact.entries.len() && left + 2 >= intact.entries.len(),
                        "{place}: {left} are left"
                    );
                    assert!(view.entries.iter().eq(intact.entries.iter().take(left)), "{place}");
                    outcome.cut += 1;
                }
                Err(error) => {
                    let name = file.file_name().and_then(|name| name.to_str()).expect("ours");
                    assert!(error.contains(name) || error.contains("data/log"), "{place}: {error}");
                    outcome.refused += 1;
                }
            }
        }
    }
}

/// One bit in each of the two copies of the identity: nothing whole is left to believe.
async fn flip_both_identities(stride: usize) -> u64 {
    let disk = SimDisk::new(SimOptions::default());
    format(&disk).await;
    let image = disk.image();
    let files = [dir().join(IDENTITY_FILE), dir().join(IDENTITY_COPY_FILE)];
    let bits = disk.bytes(&files[0]).expect("it was written").len() * 8;
    let mut flipped = 0;
    for both in (0..bits * bits).step_by(stride) {
        disk.restore(&image);
        let pair = [both / bits, both % bits];
        for (file, bit) in files.iter().zip(pair) {
            disk.flip(file, bit as u64).expect("it is there");
        }
        let found = Identity::open(&*disk.boot(), dir()).await;
        assert!(matches!(found, Err(IdentityError::Corrupt { .. })), "bits {pair:?}: {found:?}");
        flipped += 1;
    }
    flipped
}

#[test]
fn no_flipped_bit_gives_other_data() {
    let stride = usize::try_from(setting("RECOVERY_STRIDE", 499)).expect("a number of bits");
    let mut outcomes = BTreeMap::new();
    run(async {
        flip_all(true, stride, &mut outcomes).await;
        flip_all(false, stride, &mut outcomes).await;
        outcomes.entry("identity").or_default().refused += flip_both_identities(stride).await;
    });
    for kind in ["segment", "sparse", "snapshot", "identity"] {
        let outcome = &outcomes[kind];
        assert!(outcome.refused + outcome.harmless > 0, "{kind}: {outcome:?}");
    }
    assert!(outcomes["segment"].met > 0, "no flip of a closed segment is met later: {outcomes:?}");
    assert!(outcomes["segment"].refused > 0 && outcomes["sparse"].refused > 0, "{outcomes:?}");
    for (kind, outcome) in &outcomes {
        let Outcomes { refused, harmless, cut, .. } = outcome;
        let what =
            format!("bits flipped: {refused} refused, {harmless} harmless, {cut} cut the unsealed end");
        tell(&format!("flips-{kind}"), refused + harmless + cut, &what);
    }
}
