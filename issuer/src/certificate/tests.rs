use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};

use super::*;

fn certificate(change: impl FnOnce(&mut CertificateParams)) -> ClientCertificate {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    ClientCertificate::from_der(params.self_signed(&key).unwrap().der()).unwrap()
}

fn named(parts: &[(DnType, DnValue)]) -> ClientCertificate {
    certificate(|params| {
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
    })
}

fn utf8(text: &str) -> DnValue {
    DnValue::Utf8String(text.into())
}

fn dn(text: &str) -> CertificateSubject {
    CertificateSubject::SubjectDn(text.into())
}

#[test]
fn a_distinguished_name_is_compared_by_its_meaning() {
    let pump = named(&[
        (DnType::CountryName, DnValue::PrintableString("DE".try_into().unwrap())),
        (DnType::OrganizationName, utf8("Pumps, Inc.")),
        (DnType::CommonName, utf8("pump-1")),
    ]);
    // RFC 4514 §2.1 writes the last RDN first.
    for same in [
        r"CN=pump-1,O=Pumps\, Inc.,C=DE",
        r"cn=pump-1,o=Pumps\2C Inc.,c=DE",
        r"2.5.4.3=pump-1,2.5.4.10=Pumps\, Inc.,2.5.4.6=DE",
        r"CN=#0c0670756d702d31,O=Pumps\, Inc.,C=DE",
        // The same text in another kind of ASN.1 string.
        r"CN=#130670756d702d31,O=Pumps\, Inc.,C=DE",
    ] {
        assert_eq!(dn(same).check(), Ok(()), "{same}");
        assert!(pump.is_of(&dn(same)), "{same}");
    }
    for other in [
        r"C=DE,O=Pumps\, Inc.,CN=pump-1",
        "CN=pump-1",
        r"CN=pump-1,O=Pumps\, Inc.",
        r"CN=pump-1,O=Pumps\, Inc.,C=DE,DC=x",
        r"CN=Pump-1,O=Pumps\, Inc.,C=DE",
        r"CN=pump-1 ,O=Pumps\, Inc.,C=DE",
        r"CN=pump-1\00,O=Pumps\, Inc.,C=DE",
        r"OU=pump-1,O=Pumps\, Inc.,C=DE",
        // An octet string with the same bytes.
        r"CN=#040670756d702d31,O=Pumps\, Inc.,C=DE",
    ] {
        assert!(!pump.is_of(&dn(other)), "{other}");
    }
}

/// Who may choose one part of a name must not be able to write others with it.
#[test]
fn a_name_with_separators_in_a_value_is_not_the_name_with_those_parts() {
    let tricky = named(&[(DnType::CommonName, utf8("pump-1,O=Pumps"))]);
    assert!(!tricky.is_of(&dn("CN=pump-1,O=Pumps")));
    assert!(tricky.is_of(&dn(r"CN=pump-1\,O\=Pumps")));
    let plus = named(&[(DnType::CommonName, utf8("a+OU=b"))]);
    assert!(!plus.is_of(&dn("CN=a+OU=b")));
}

#[test]
fn an_alternative_name_is_found_in_its_own_kind_alone() {
    let text = |text: &str| text.try_into().unwrap();
    let many = certificate(|params| {
        params.subject_alt_names = vec![
            SanType::DnsName(text("Pump-1.example")),
            SanType::DnsName(text("*.wild.example")),
            SanType::URI(text("urn:dev:pump-1")),
            SanType::IpAddress("192.0.2.7".parse().unwrap()),
            SanType::IpAddress("2001:db8::7".parse().unwrap()),
            SanType::Rfc822Name(text("pump-1@example.com")),
        ];
    });
    use CertificateSubject::{SanDns, SanEmail, SanIp, SanUri};
    for subject in [
        SanDns("pump-1.EXAMPLE".into()),
        SanUri("urn:dev:pump-1".into()),
        SanIp("192.0.2.7".parse().unwrap()),
        SanIp("2001:db8::7".parse().unwrap()),
        SanEmail("pump-1@example.com".into()),
    ] {
        assert_eq!(subject.check(), Ok(()));
        assert!(many.is_of(&subject), "{subject:?}");
    }
    for subject in [
        SanDns("pump-1.example.".into()),
        SanDns("a.wild.example".into()),
        SanDns("urn:dev:pump-1".into()),
        SanDns("192.0.2.7".into()),
        SanUri("urn:dev:pump-10".into()),
        SanUri("URN:dev:pump-1".into()),
        SanIp("192.0.2.8".parse().unwrap()),
        SanIp("::ffff:192.0.2.7".parse().unwrap()),
        SanEmail("Pump-1@example.com".into()),
        dn("CN=pump-1.example"),
    ] {
        assert!(!many.is_of(&subject), "{subject:?}");
    }
}

#[test]
fn a_name_that_no_certificate_has_cannot_be_set() {
    use CertificateSubject::{SanDns, SanEmail, SanUri, SubjectDn};
    for subject in [
        SubjectDn(String::new()),
        SubjectDn("pump-1".into()),
        SubjectDn("CN=pump-1, O=Example".into()),
        SubjectDn("CN=".into()),
        SubjectDn("nonsense=x".into()),
        SubjectDn(r"CN=x\".into()),
        SubjectDn(r"CN=x\4".into()),
        SubjectDn(r"CN=x\4,O=y".into()),
        SubjectDn(format!("CN={}", "x".repeat(MAX_SUBJECT_LENGTH))),
        SanDns("*.example".into()),
        SanDns("a..b".into()),
        SanDns("pümp".into()),
        SanUri("pump-1".into()),
        SanEmail("pump-1".into()),
    ] {
        let error = subject.check().unwrap_err();
        assert!(error.to_string().starts_with(subject.field()), "{error}");
    }
}

#[test]
fn the_dates_of_a_certificate_bound_it() {
    let short = certificate(|params| {
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 2);
    });
    let start = UnixSeconds(1_767_225_600);
    assert!(!short.is_in_time(UnixSeconds(start.0 - 1)));
    assert!(short.is_in_time(start));
    assert!(short.is_in_time(start.plus(86_400)));
    assert!(!short.is_in_time(start.plus(86_401)));
}

#[test]
fn what_is_not_a_certificate_is_none() {
    assert!(ClientCertificate::from_der(b"").is_none());
    assert!(ClientCertificate::from_der(b"\x30\x80").is_none());
    let key = KeyPair::generate().unwrap();
    let mut der = CertificateParams::default().self_signed(&key).unwrap().der().to_vec();
    assert!(ClientCertificate::from_der(&der).is_some());
    der.push(0);
    assert!(ClientCertificate::from_der(&der).is_none());
}
