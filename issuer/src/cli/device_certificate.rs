//! `fleetbadge-issuer device certificate …`.

use std::net::IpAddr;

use clap::{Args, Subcommand};
use reqwest::Method;

use super::client::{Failure, Operator};
use super::{date, last_used, print, print_json};
use crate::admin::device_certificate::{CertificateDocument, SetCertificate};
use crate::admin::devices::DeviceDocument;

#[derive(Args)]
pub(super) struct Certificate {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Know a device by a name in its certificate, in place of the former one
    Set(Set),
    /// Know a device by no certificate any more
    Clear(Clear),
}

#[derive(Args)]
struct Set {
    /// Name of the device
    name: String,
    #[command(flatten)]
    subject: Subject,
    /// Bind the device's tokens to the certificate that it shows: its broker
    /// must be able to check that (RFC 8705 §3). The Mosquitto plugin cannot
    /// yet, and refuses such tokens
    #[arg(long)]
    bound_access_tokens: bool,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Subject {
    /// Its subject, as RFC 4514 writes it: the last part first
    #[arg(long, value_name = "DN")]
    subject_dn: Option<String>,
    /// A DNS name among its alternative names
    #[arg(long, value_name = "NAME")]
    san_dns: Option<String>,
    /// A URI among its alternative names
    #[arg(long, value_name = "URI")]
    san_uri: Option<String>,
    /// An IP address among its alternative names
    #[arg(long, value_name = "ADDRESS")]
    san_ip: Option<IpAddr>,
    /// An email address among its alternative names
    #[arg(long, value_name = "ADDRESS")]
    san_email: Option<String>,
}

#[derive(Args)]
struct Clear {
    /// Name of the device
    name: String,
    #[command(flatten)]
    operator: Operator,
}

impl Certificate {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Set(set) => set.run(),
            Verb::Clear(Clear { name, operator }) => operator.run(async |client| {
                client.delete(&["devices", &name, "certificate"]).await?;
                if operator.json {
                    return print_json(&serde_json::json!({ "client_id": name, "cleared": true }));
                }
                print(&format!("Device {name} is known by no certificate any more.\n"))
            }),
        }
    }
}

impl Set {
    fn run(self) -> Result<(), Failure> {
        let Self { name, subject, bound_access_tokens, operator } = self;
        let Subject { subject_dn, san_dns, san_uri, san_ip, san_email } = subject;
        operator.run(async |client| {
            let wanted = SetCertificate {
                tls_client_auth_subject_dn: subject_dn,
                tls_client_auth_san_dns: san_dns,
                tls_client_auth_san_uri: san_uri,
                tls_client_auth_san_ip: san_ip,
                tls_client_auth_san_email: san_email,
                tls_client_certificate_bound_access_tokens: bound_access_tokens,
            };
            let path = ["devices", &name, "certificate"];
            let device: DeviceDocument = client.send_json(Method::PUT, &path, &wanted).await?;
            if operator.json {
                return print_json(&device);
            }
            show(device.certificate.as_ref())?;
            print(&format!(
                "\nDevice {name} gets a token with:\n\
                 \x20 curl --cert CERTIFICATE --key KEY -d grant_type=client_credentials -d client_id={name} \
                 TOKEN_ENDPOINT\n"
            ))
        })
    }
}

/// What people see of a device's certificate.
pub(super) fn show(certificate: Option<&CertificateDocument>) -> Result<(), Failure> {
    let Some(certificate) = certificate else {
        return Ok(());
    };
    let bound = if certificate.tls_client_certificate_bound_access_tokens { "bound" } else { "not bound" };
    print(&format!(
        "certificate      {} = {}, set {}, tokens {bound} to it, {}\n",
        certificate.subject.field(),
        certificate.subject.value(),
        date(certificate.created_at),
        last_used(certificate.last_used_at),
    ))
}
