//! The client: threads with some connections each, which send one request on each and then read the answers, again and again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::wire;

/// What came of a round.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Requests that were answered.
    pub requests: u64,
    /// Bytes of the answers.
    pub bytes: u64,
}

/// A source of requests: `next` writes one into the buffer; every answer must have this status.
pub trait Asker: Send {
    /// The next request's bytes.
    fn next(&mut self, request: &mut Vec<u8>);
    /// What every answer must be.
    fn status(&self) -> u16;
}

/// A connection that is kept.
pub struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
    len: usize,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub fn new(address: SocketAddr) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Connection { stream, answer: vec![0; 64 << 10], len: 0 })
    }

    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// The server ends the connection, or does not answer.
    pub fn ask(&mut self, request: &[u8]) -> std::io::Result<&[u8]> {
        self.stream.write_all(request)?;
        let len = self.read()?;
        Ok(&self.answer[..len])
    }

    /// Reads one answer; how long it is.
    fn read(&mut self) -> std::io::Result<usize> {
        self.len = 0;
        let mut needed = None;
        loop {
            if needed.is_none() {
                needed = wire::answer_len(&self.answer[..self.len]);
            }
            if let Some(needed) = needed {
                if self.len >= needed {
                    return Ok(needed);
                }
                if self.answer.len() < needed {
                    self.answer.resize(needed, 0);
                }
            }
            let read = self.stream.read(&mut self.answer[self.len..])?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.len += read;
        }
    }
}

/// Sends one request and hands back the whole answer.
///
/// # Errors
/// The server cannot be reached, or ends the connection.
pub fn exchange(address: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    Ok(Connection::new(address)?.ask(request)?.to_vec())
}

/// Drives a server for so long with one thread per asker, each with so many connections. However long it takes to connect, each is asked
/// with once.
///
/// # Errors
/// A connection fails, or an answer is not what it must be.
pub fn drive(
    address: SocketAddr,
    askers: &mut [Box<dyn Asker>],
    connections: usize,
    time: Duration,
) -> std::io::Result<Sent> {
    let until = Instant::now() + time;
    let sent: Vec<std::io::Result<Sent>> = std::thread::scope(|scope| {
        let threads: Vec<_> = askers
            .iter_mut()
            .map(|asker| scope.spawn(move || one(address, asker.as_mut(), connections, until)))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("the client does not panic")).collect()
    });
    let mut all = Sent::default();
    for sent in sent {
        let sent = sent?;
        all.requests += sent.requests;
        all.bytes += sent.bytes;
    }
    Ok(all)
}

fn one(address: SocketAddr, asker: &mut dyn Asker, connections: usize, until: Instant) -> std::io::Result<Sent> {
    let mut connections = (0..connections).map(|_| Connection::new(address)).collect::<std::io::Result<Vec<_>>>()?;
    let mut sent = Sent::default();
    let mut request = Vec::new();
    loop {
        for connection in &mut connections {
            request.clear();
            asker.next(&mut request);
            connection.stream.write_all(&request)?;
        }
        for connection in &mut connections {
            let len = connection.read()?;
            let answer = &connection.answer[..len];
            let status = wire::split(answer).and_then(|(head, _)| wire::status(head));
            if status != Some(asker.status()) {
                let answer = String::from_utf8_lossy(answer).into_owned();
                return Err(std::io::Error::other(format!("an answer is not {}: {answer}", asker.status())));
            }
            sent.requests += 1;
            sent.bytes += len as u64;
        }
        if Instant::now() >= until {
            return Ok(sent);
        }
    }
}
