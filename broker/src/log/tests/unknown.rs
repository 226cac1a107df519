//! Records of another program, or of another Raft group.

use super::*;
use crate::log::format::file_id::FileId;
use crate::log::format::record::Header;

#[test]
fn a_record_of_another_version_is_named_as_such_and_not_cut_off() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        store.append((0..3).map(|index| entry(index, 1))).await;
        store.kill(&disk);
        let path = files(&disk, "log")[0].clone();
        let mut bytes = disk.bytes(&path).unwrap();
        let (name, at) = (path.file_name().unwrap().to_str().unwrap(), 4_096);
        bytes[at + 33] = 9;
        crate::log::examples::seal(name, &mut bytes, at, options().seed);
        let file = crate::fs::Disk::open(&*disk.boot(), &path, crate::fs::Open::Write).unwrap();
        file.write_at(&[std::io::IoSlice::new(&bytes)], 0).unwrap();
        let error = Store::open_with(&disk, options()).await.map(drop).expect_err("it cannot be read");
        assert!(matches!(error, LogError::Unknown { offset: 4_096, version: 9, .. }), "{error}");
        assert!(error.to_string().contains("which this program does not know"), "{error}");
    });
}

/// Of whatever other program or cluster it is: it is whole, so it is never taken for what a crash left.
#[test]
fn a_record_of_another_group_ends_the_start_and_nothing_is_cut_off() {
    run(async {
        let disk = formatted().await;
        let store = Store::open(&disk).await;
        // Each a group of its own.
        for index in 0..4 {
            store.append([entry(index, 1)]).await;
        }
        store.kill(&disk);
        let image = disk.image();
        let path = files(&disk, "log")[0].clone();
        let name = path.file_name().unwrap().to_str().unwrap();
        let salt = FileId::parse(name).unwrap().salt(options().seed);
        let whole = disk.bytes(&path).unwrap();
        let is_record = |at: &usize| Header::decode(whole[*at..].first_chunk().unwrap(), salt).is_some();
        let records: Vec<usize> = (0..whole.len()).step_by(4_096).filter(is_record).collect();
        assert!(records.len() >= 5, "each entry is a group of its own: {records:?}");
        for at in [0, records[2], *records.last().unwrap()] {
            disk.restore(&image);
            let mut planted = whole.clone();
            planted[at + 60] = 7;
            crate::log::examples::seal(name, &mut planted, at, options().seed);
            let file = crate::fs::Disk::open(&*disk.boot(), &path, crate::fs::Open::Write).unwrap();
            file.write_at(&[std::io::IoSlice::new(&planted)], 0).unwrap();
            let error = Store::open_with(&disk, options()).await.map(drop).expect_err("it cannot be read");
            let (found, offset) = match &error {
                LogError::Unknown { group, offset, .. } => (*group, *offset),
                other => panic!("{other}"),
            };
            assert_eq!((found, offset), (7, at as u64));
            assert!(error.to_string().contains("group 7"), "{error}");
            assert_eq!(disk.bytes(&path).unwrap(), planted, "it was changed at {at}");
        }
    });
}
