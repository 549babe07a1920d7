//! What a request looks like (RFC 6749 §3.2), and how much of it is read.

use super::*;

#[tokio::test]
async fn section_3_2_post_only() {
    let (issuer, _) = with_pump().await;
    for method in [Method::GET, Method::PUT, Method::HEAD, Method::DELETE, Method::OPTIONS] {
        let mut request: Request<Body> = token_request(GRANT).into();
        *request.method_mut() = method.clone();
        let answer = issuer.public(request).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(answer.header("allow"), Some("POST"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn section_3_2_parameters() {
    let (issuer, secret) = with_pump().await;
    let own = format!("client_id=pump-1&client_secret={secret}");
    let ask = async |body: String| issuer.public(token_request(body).into()).await;
    // Empty counts as omitted, unknown ones are passed over.
    let answer = ask(format!("{GRANT}&{own}&scope=&mqtt_client_id=&resource=&other=x&x")).await;
    assert_eq!(answer.status, StatusCode::OK);
    for repeated in ["scope=mqtt.connect&scope=mqtt.connect", GRANT, "x=1&x=2", "scope=&sc%6Fpe="] {
        let body = format!("{GRANT}&{own}&{repeated}");
        assert_eq!(refused(&issuer, token_request(body)).await, invalid_request(), "{repeated}");
    }
    let answer = ask(format!("{GRANT}&{own}&resource=urn:nobody")).await;
    assert_eq!((answer.status.as_u16(), answer.error()), (400, "invalid_target".into()));
    for malformed in ["scope=%", "scope=%f", "scope=%ff", "%zz=1", "scope=%C3"] {
        let body = format!("{GRANT}&{own}&{malformed}");
        assert_eq!(refused(&issuer, token_request(body)).await, invalid_request(), "{malformed}");
    }
}

#[tokio::test]
async fn section_3_2_the_content_type() {
    let (issuer, secret) = with_pump().await;
    let ask = async |content_types: &[&str]| {
        let mut request: Request<Body> =
            token_request(GRANT).header(header::AUTHORIZATION, basic("pump-1", &secret)).into();
        request.headers_mut().remove(header::CONTENT_TYPE);
        for content_type in content_types {
            request.headers_mut().append(header::CONTENT_TYPE, content_type.parse().unwrap());
        }
        issuer.public(request).await
    };
    const FORM: &str = "application/x-www-form-urlencoded";
    for good in [
        FORM,
        "Application/X-WWW-Form-URLEncoded",
        &format!("{FORM}; charset=UTF-8"),
        &format!("{FORM};charset=\"utf-8\""),
    ] {
        assert_eq!(ask(&[good]).await.status, StatusCode::OK, "{good}");
    }
    for bad in [
        &[][..],
        &[""],
        &["application/json"],
        &["multipart/form-data; boundary=x"],
        &["text/plain"],
        &["application/x-www-form-urlencodedx"],
        &[&format!("{FORM}; charset=utf-7")],
        &[&format!("{FORM}; charset=iso-8859-1")],
        &[FORM, "application/json"],
    ] {
        let answer = ask(bad).await;
        assert_shape(&answer);
        assert_eq!((answer.status.as_u16(), answer.error()), invalid_request(), "{bad:?}");
    }
}

#[tokio::test]
async fn a_body_is_bounded_and_not_compressed() {
    let (issuer, _) = with_pump().await;
    let padding = "x".repeat(MAX_BODY_LENGTH + 1);
    assert_eq!(
        refused(&issuer, token_request(format!("{GRANT}&x={padding}"))).await,
        (413, "invalid_request".into())
    );
    // The same without a stated length.
    let mut request: Request<Body> = token_request("").into();
    *request.body_mut() = Body::new(Full::<Bytes>::from(padding).map_frame(|frame| frame));
    assert_eq!(refused(&issuer, request).await, (413, "invalid_request".into()));
    let request = token_request(GRANT).header(header::CONTENT_ENCODING, "gzip");
    assert_eq!(refused(&issuer, request).await, invalid_request());
}

#[tokio::test]
async fn a_body_comes_in_time() {
    let issuer = TestIssuer::with(Options { request_timeout_s: Some(1), ..Options::default() }).await;
    let mut request: Request<Body> = token_request("").into();
    *request.body_mut() = Body::new(Full::<Bytes>::from(GRANT).with_trailers(std::future::pending()));
    assert_eq!(refused(&issuer, request).await, (408, "invalid_request".into()));
}
