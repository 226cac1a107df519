//! Every change, loss and damage of the two files.

use std::io::IoSlice;

use futures_util::FutureExt as _;

use super::*;
use crate::fs::sim::{Fault, Op, SimDisk, SimOptions, Unit};

fn root() -> &'static Path {
    Path::new("")
}

fn joined() -> Identity {
    let name = Text::new("n3").unwrap();
    let (cluster, node, store) = (ClusterId(16), NodeId(3), StoreId(32));
    let admission = Some(Admission { generation: 1, key: [0xad; 32] });
    Identity { cluster, node, store, name, admission, assigned: 300, removed: false, forming: false }
}

fn fresh() -> Identity {
    let (admission, assigned) = (None, 0);
    Identity {
        cluster: ClusterId(0),
        node: NodeId(0),
        name: Text::default(),
        admission,
        assigned,
        ..joined()
    }
}

fn write(disk: &SimDisk, identity: &Identity, revision: u32) -> bool {
    identity.write(disk, root(), revision).now_or_never().unwrap().is_ok()
}

fn open(disk: &SimDisk) -> Result<Found, IdentityError> {
    Identity::open(disk, root()).now_or_never().unwrap()
}

fn formatted() -> SimDisk {
    let disk = SimDisk::new(SimOptions { unit: Unit::Sector, ..SimOptions::default() });
    assert!(write(&disk, &joined(), 0));
    disk
}

fn put(disk: &SimDisk, name: &str, bytes: &[u8]) {
    let file = disk.open(Path::new(name), Open::Write).unwrap();
    file.set_size(0).unwrap();
    file.write_at(&[IoSlice::new(bytes)], 0).unwrap();
}

#[test]
fn both_files_hold_the_bytes_of_the_format() {
    let disk = formatted();
    let bytes = disk.bytes(Path::new(IDENTITY_FILE)).unwrap();
    assert_eq!(bytes, disk.bytes(Path::new(IDENTITY_COPY_FILE)).unwrap());
    let expected = [
        &b"QUEUE-ID\x01\0\0\0\x01\0\0\0"[..],
        b"\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"\x03\0\0\0\0\0\0\0\x02\0\x07\0n3",
        &[0; 62],
        &[0xad; 32],
        b"\x01\0\0\0\x2c\x01\0\0\0\0\0\0",
        &[0x96, 0x8e, 0xeb, 0xdb],
    ];
    assert_eq!(bytes, expected.concat());
    assert_eq!(open(&disk).unwrap(), Found { identity: joined(), revision: 1, damage: None });
    assert_eq!(disk.list(root()).unwrap(), [IDENTITY_FILE, IDENTITY_COPY_FILE]);
}

#[test]
fn the_longest_name_fits() {
    let identity = Identity { name: Text::new("\u{e9}".repeat(32)).unwrap(), ..fresh() };
    assert!(!identity.is_joined() && joined().is_joined());
    let disk = formatted();
    assert!(write(&disk, &identity, 1));
    assert_eq!(open(&disk).unwrap().identity, identity);
    let forming = Identity { forming: true, ..joined() };
    assert!(!forming.is_joined() && write(&disk, &forming, 2));
    assert_eq!(open(&disk).unwrap().identity, forming);
}

#[test]
fn every_flipped_bit_of_one_file_is_damage_that_opening_mends_and_of_both_is_corruption() {
    let disk = formatted();
    for bit in 0..SIZE as u64 * 8 {
        for (name, other) in [(IDENTITY_FILE, IDENTITY_COPY_FILE), (IDENTITY_COPY_FILE, IDENTITY_FILE)] {
            disk.flip(Path::new(name), bit).unwrap();
            let found = Identity::read(&disk, root()).unwrap();
            assert_eq!(found.identity, joined());
            assert!(found.damage.unwrap().starts_with(&format!("{name} is corrupt at offset ")));
            disk.flip(Path::new(other), bit).unwrap();
            assert!(matches!(Identity::read(&disk, root()), Err(IdentityError::Corrupt { .. })), "bit {bit}");
            disk.flip(Path::new(other), bit).unwrap();
            assert!(open(&disk).unwrap().damage.is_some());
            assert_eq!(Identity::read(&disk, root()).unwrap().damage, None, "mended");
        }
    }
}

#[test]
fn every_truncation_and_a_longer_file_is_corrupt() {
    let disk = formatted();
    let whole = disk.bytes(Path::new(IDENTITY_FILE)).unwrap();
    disk.remove(Path::new(IDENTITY_COPY_FILE)).unwrap();
    let longer = [&whole[..], b"x"].concat();
    for bytes in (0..SIZE).map(|size| &whole[..size]).chain([&longer[..]]) {
        put(&disk, IDENTITY_FILE, bytes);
        let error = Identity::read(&disk, root()).unwrap_err();
        assert!(matches!(error, IdentityError::Corrupt { .. }), "{error}");
    }
    put(&disk, IDENTITY_FILE, &whole);
    assert!(Identity::read(&disk, root()).unwrap().damage.is_some(), "the copy is missing");
}

#[test]
fn a_node_that_was_removed_stays_removed() {
    let disk = formatted();
    Identity::mark_removed(&disk, root()).now_or_never().unwrap().unwrap();
    disk.crash(1);
    let found = open(&disk).unwrap();
    assert_eq!(found.identity, Identity { removed: true, ..joined() });
    assert_eq!((found.revision, found.damage), (2, None));
}

#[test]
fn nothing_there_is_missing_and_neither_corrupt_nor_foreign() {
    let disk = SimDisk::new(SimOptions::default());
    assert!(matches!(Identity::read(&disk, root()), Err(IdentityError::Missing { .. })));
    let error = Identity::open(&disk, Path::new("d")).now_or_never().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "d is not formatted: it has no IDENTITY");
}

#[test]
fn whole_files_of_somebody_else_are_foreign() {
    let disk = formatted();
    let other = Identity { store: StoreId(33), ..joined() };
    put(&disk, IDENTITY_COPY_FILE, &other.encode(9));
    assert!(matches!(open(&disk), Err(IdentityError::Foreign { .. })));

    let with = |at: usize, value| {
        let mut bytes = joined().encode(1);
        bytes[at] = value;
        let checksum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        put(&disk, IDENTITY_COPY_FILE, &bytes);
        open(&disk).unwrap_err().to_string()
    };
    assert_eq!(with(8, 2), "IDENTITY.copy is not ours: it has format 2, this version reads format 1");
    let draft = with(58, 0);
    assert!(draft.starts_with("IDENTITY.copy is not ours: a build before the first release"), "{draft}");

    put(&disk, IDENTITY_COPY_FILE, &fresh().encode(1));
    assert!(matches!(open(&disk), Err(IdentityError::Corrupt { .. })), "same revision, other contents");

    let expect = |cluster: u128, name| joined().expect(root(), Some(ClusterId(cluster)), Some(name)).is_ok();
    assert_eq!((expect(16, "n3"), expect(17, "n3"), expect(16, "n1")), (true, false, false));
    assert!(joined().expect(root(), None, None).is_ok());
}

#[test]
fn a_file_that_cannot_be_read_is_replaced_by_its_copy() {
    let disk = formatted();
    disk.fail(Op::Read, 1, Fault::Io);
    assert_eq!(open(&disk).unwrap().identity, joined());
    disk.fail(Op::Read, 1, Fault::Io);
    disk.fail(Op::Read, 2, Fault::Io);
    assert!(matches!(open(&disk), Err(IdentityError::Disk(_))));
}

#[test]
fn joining_is_done_or_not_at_every_crash_point_even_if_opening_crashes_too() {
    let mut seen = std::collections::BTreeSet::new();
    for (k, seed) in (0..=12).flat_map(|k| (0..40).map(move |seed| (k, seed))) {
        let disk = SimDisk::new(SimOptions { seed, ..SimOptions::default() });
        assert!(write(&disk, &fresh(), 0));
        disk.off_after(k);
        let done = write(&disk, &joined(), 1);
        disk.crash(seed);
        disk.off_after(seed % 10);
        let _interrupted = open(&disk);
        disk.crash(seed + 1);
        let found = open(&disk).unwrap();
        assert!(found.identity == joined() || (found.identity == fresh() && !done), "{k} {seed}");
        assert_eq!(disk.list(root()).unwrap(), [IDENTITY_FILE, IDENTITY_COPY_FILE]);
        assert_eq!(Identity::read(&disk, root()).unwrap().damage, None);
        seen.insert((found.identity.is_joined(), found.damage.is_some()));
    }
    let expected = [(false, false), (true, false), (true, true)];
    assert_eq!(Vec::from_iter(seen), expected, "old; new; new in one file only");
}
