//! The processes that write: a leader, and two followers that it sends its groups to.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::Context as _;

use super::{Buffer, HEAD_SIZE, answer, answers, frame, head};

/// Bytes of a node's file: written before anything is measured, then over and over.
const FILE_SIZE: usize = 64 << 20;
/// Groups begin and end on such a boundary.
const BLOCK_SIZE: usize = 4096;

/// A file whose blocks are there already.
struct Disk {
    file: File,
    at: usize,
}

impl Disk {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).truncate(true).write(true).open(path)?;
        let zeros = vec![0; 1 << 20];
        for at in (0..FILE_SIZE).step_by(zeros.len()) {
            file.write_all_at(&zeros, at as u64)?;
        }
        file.sync_all()?;
        Ok(Self { file, at: 0 })
    }

    /// Writes a group, padded, and syncs it.
    fn append(&mut self, group: &mut Vec<u8>) -> io::Result<()> {
        let size = group.len();
        group.resize(size.next_multiple_of(BLOCK_SIZE), 0);
        if self.at + group.len() > FILE_SIZE {
            self.at = 0;
        }
        self.file.write_all_at(group, self.at as u64)?;
        self.at += group.len();
        group.truncate(size);
        self.file.sync_data()
    }
}

/// Says where this process listens, and ends it when its parent is gone.
fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    thread::spawn(|| {
        let ended = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(i32::from(ended.is_err()));
    });
    Ok(listener)
}

fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Runs a node of the roofline until its standard input ends: a follower, or the leader of two `followers`.
///
/// # Errors
/// A socket or the disk.
pub fn run(path: &Path, followers: &[String]) -> anyhow::Result<()> {
    let disk = Disk::open(path)?;
    if followers.is_empty() {
        return follow(disk).context("a follower failed");
    }
    let mut links = Vec::new();
    for address in followers {
        let link = TcpStream::connect(address)?;
        link.set_nodelay(true)?;
        links.push(link);
    }
    lead(disk, links).context("the leader failed")
}

fn follow(mut disk: Disk) -> io::Result<()> {
    let mut leader = accept(&listen()?)?;
    let mut buffer = Buffer::new();
    let mut group = Vec::new();
    loop {
        let (mut taken, mut newest) = (0, None);
        // All that has come is one write.
        while let Some((number, body)) = frame(&buffer.filled()[taken..])? {
            taken += HEAD_SIZE + body.len();
            newest = Some(number);
        }
        if let Some(number) = newest {
            group.clear();
            group.extend_from_slice(&buffer.filled()[..taken]);
            buffer.take(taken);
            disk.append(&mut group)?;
            answer(&leader, number)?;
        }
        if !buffer.fill(&mut leader)? {
            return Ok(());
        }
    }
}

/// What waits for the next group.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// Who is to be told of which number.
    last: Vec<(Arc<TcpStream>, u64)>,
}

#[derive(Default)]
struct Shared {
    gathered: Mutex<Gathered>,
    arrived: Condvar,
    /// The newest group that a follower has on its disk.
    on_disk: Mutex<u64>,
    confirmed: Condvar,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lead(disk: Disk, links: Vec<TcpStream>) -> io::Result<()> {
    let shared = Arc::new(Shared::default());
    for link in &links {
        let (link, shared) = (link.try_clone()?, Arc::clone(&shared));
        thread::spawn(move || {
            answers(link, |number| {
                let mut on_disk = locked(&shared.on_disk);
                *on_disk = number.max(*on_disk);
                shared.confirmed.notify_one();
            })
        });
    }
    let listener = listen()?;
    let commits = Arc::clone(&shared);
    thread::spawn(move || {
        if let Err(error) = commit(&commits, disk, links) {
            panic!("the leader cannot commit: {error}");
        }
    });
    loop {
        let (client, shared) = (accept(&listener)?, Arc::clone(&shared));
        thread::spawn(move || gather(&shared, client));
    }
}

/// Takes frames off a client's socket, all that have come at once.
fn gather(shared: &Shared, client: TcpStream) -> io::Result<()> {
    let client = Arc::new(client);
    let mut buffer = Buffer::new();
    while buffer.fill(&mut &*client)? {
        let (mut taken, mut last) = (0, 0);
        while let Some((number, body)) = frame(&buffer.filled()[taken..])? {
            taken += HEAD_SIZE + body.len();
            last = number;
        }
        if taken == 0 {
            continue;
        }
        let mut gathered = locked(&shared.gathered);
        gathered.bytes.extend_from_slice(&buffer.filled()[..taken]);
        gathered.last.push((Arc::clone(&client), last));
        drop(gathered);
        shared.arrived.notify_one();
        buffer.take(taken);
    }
    Ok(())
}

/// Makes groups durable, one after the other, and answers.
fn commit(shared: &Shared, mut disk: Disk, mut links: Vec<TcpStream>) -> io::Result<()> {
    let mut group = Gathered::default();
    for number in 1.. {
        group.bytes.clear();
        group.last.clear();
        let mut gathered = locked(&shared.gathered);
        while gathered.last.is_empty() {
            gathered = shared.arrived.wait(gathered).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut *gathered, &mut group);
        drop(gathered);
        let head = head(number, &group.bytes);
        for link in &mut links {
            write_both(link, &head, &group.bytes)?;
        }
        disk.append(&mut group.bytes)?;
        let mut on_disk = locked(&shared.on_disk);
        while *on_disk < number {
            on_disk = shared.confirmed.wait(on_disk).unwrap_or_else(PoisonError::into_inner);
        }
        drop(on_disk);
        // Cumulative: only the last of each client counts.
        while let Some((client, last)) = group.last.pop() {
            group.last.retain(|(other, _)| !Arc::ptr_eq(other, &client));
            // A client that is gone needs no answer.
            let _ = answer(&*client, last);
        }
    }
    Ok(())
}

fn write_both(to: &mut TcpStream, head: &[u8], body: &[u8]) -> io::Result<()> {
    let mut slices = [IoSlice::new(head), IoSlice::new(body)];
    let mut left = &mut slices[..];
    while !left.is_empty() {
        let count = to.write_vectored(left)?;
        IoSlice::advance_slices(&mut left, count);
    }
    Ok(())
}
