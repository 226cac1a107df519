//! `queued cert`: a small authority, certificates for nodes, and what is in a certificate.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::print;
use crate::tls::{Authority, Certificate, NODE_DAYS};

const EXAMPLE: &str = "\
Example:
  queued cert ca
  queued cert node mq1 --host mq1 --host mq1.example.org --host 10.0.0.1
  queued serve --tls-mode=require --tls-cert=mq1.crt --tls-key=mq1.key --tls-ca=ca.crt
  queuectl -s mq1:7410 --tls-ca ca.crt cluster status";

/// `cert`
#[derive(Subcommand, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) enum CertCommand {
    /// Make an authority: ca.crt for everybody, ca.key for whoever issues certificates
    Ca(CaArgs),
    /// Issue the certificate of a node: NAME.crt and NAME.key
    Node(NodeArgs),
    /// Print whom a certificate is for, until when it is valid, and the pin of its key
    Show {
        /// PEM
        file: PathBuf,
    },
}

/// `cert ca`
#[derive(Args, Debug)]
pub(super) struct CaArgs {
    /// Where the files go
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

/// `cert node`
#[derive(Args, Debug)]
pub(super) struct NodeArgs {
    /// Name of the files
    #[arg(value_name = "NAME", value_parser = file_name)]
    name: String,
    /// A name or address under which clients reach the node; as often as needed
    #[arg(long, value_name = "HOST", required = true)]
    host: Vec<String>,
    /// The directory of ca.crt and ca.key
    #[arg(long, value_name = "DIR", default_value = ".")]
    ca: PathBuf,
    /// Where the files go
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// How long it is valid, in days
    #[arg(long, value_name = "N", default_value_t = NODE_DAYS, value_parser = clap::value_parser!(u64).range(1..=3_650))]
    days: u64,
}

fn file_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_name = !text.is_empty() && !text.starts_with(['.', '-']) && text.chars().all(allowed);
    if is_name { Ok(text.to_owned()) } else { Err("must be of A-Z a-z 0-9 . - _".to_owned()) }
}

/// Makes or prints what was asked for.
pub(super) fn run(command: &CertCommand) -> Result<(), Failure> {
    match command {
        CertCommand::Ca(args) => {
            let [certificate, key] = files(&args.out, "ca");
            let (_, issued) = Authority::make()?;
            issued.write(&certificate, &key)?;
            made(&certificate, &key)
        }
        CertCommand::Node(args) => {
            let [certificate, key] = files(&args.ca, "ca");
            let authority = Authority::read(&certificate, &key)?;
            let issued = authority.issue(&args.name, &args.host, args.days)?;
            let [certificate, key] = files(&args.out, &args.name);
            issued.write(&certificate, &key)?;
            made(&certificate, &key)
        }
        CertCommand::Show { file } => print(&shown(&Certificate::read(file)?)),
    }
}

/// Certificate and key of this name.
fn files(dir: &Path, name: &str) -> [PathBuf; 2] {
    ["crt", "key"].map(|kind| dir.join(format!("{name}.{kind}")))
}

fn made(certificate: &Path, key: &Path) -> Result<(), Failure> {
    let until = Certificate::read(certificate)?.until;
    print(&format!(
        "made {} (valid until {until}) and {}, for the eyes of this user only\n",
        certificate.display(),
        key.display()
    ))
}

fn shown(certificate: &Certificate) -> String {
    let names = match certificate.names.is_empty() {
        true => "no name".to_owned(),
        false => certificate.names.join(", "),
    };
    let kind = match (certificate.is_authority, certificate.is_self_signed) {
        (true, _) => "an authority",
        (false, true) => "a server, self-signed",
        (false, false) => "a server",
    };
    format!(
        "kind   {kind}\nfor    {names}\nvalid  {} to {}\npin    {}\n",
        certificate.from, certificate.until, certificate.pin
    )
}
