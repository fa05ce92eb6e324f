//! [`Objects`] of S3 and what speaks its protocol, by the crate `object_store`; uploads are listed by a request of our own, since the crate
//! has none.

use super::super::super::life::waiting_for;
use super::super::super::secrets;
use super::job::wait;
use super::{Address, Note, Objects};
use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
    UpdateVersion,
};
use serde::Deserialize;
use std::io;
use std::sync::Arc;
use std::time::Duration;

const REGION: &str = "us-east-1";
/// One request, with its body. A part has 8 MiB: less than 180 KiB/s is no connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(45);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Attempts of one request within a call; then the output is down, and waits longer.
const RETRIES_MAX: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes that are read at a time of an object that is summed.
const READ_SIZE: u64 = 8 << 20;
/// Pages of 1,000 uploads that are looked through.
const PAGES_MAX: usize = 1_000;
/// Of a store's message.
const MESSAGE_CHARS_MAX: usize = 300;
/// The names of AWS's own files.
const KEYS: [(&str, AmazonS3ConfigKey); 3] = [
    ("aws_access_key_id", AmazonS3ConfigKey::AccessKeyId),
    ("aws_secret_access_key", AmazonS3ConfigKey::SecretAccessKey),
    ("aws_session_token", AmazonS3ConfigKey::Token),
];
/// In the environment, what keys come from; else they are asked of the machine.
const ENVIRONMENT: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

pub(super) struct S3 {
    store: Arc<AmazonS3>,
    client: HttpClient,
    region: String,
    /// Of the bucket, without a slash at its end.
    url: String,
    shown: String,
}

/// What can be told without asking the store.
pub(super) fn lacks(address: &Address) -> Option<String> {
    if address.credentials.is_some() {
        return keys(address).err();
    }
    let is_set = ENVIRONMENT.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    (!is_set).then(|| {
        format!(
            "{address}: there are no keys in this environment; the daemon needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or credentials = \"NAME\" (a file in secrets/), or a machine that has a role"
        )
    })
}

/// What the secret of an address says.
fn keys(address: &Address) -> Result<Vec<(AmazonS3ConfigKey, String)>, String> {
    let Some(name) = &address.credentials else { return Ok(Vec::new()) };
    let text = secrets::text_of(name, &address.pipeline)?;
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        if let Some((_, key)) = KEYS.iter().find(|(known, _)| *known == key.trim().to_ascii_lowercase()) {
            found.push((*key, value.trim().to_owned()));
        }
    }
    if found.iter().filter(|(key, value)| *key != AmazonS3ConfigKey::Token && !value.is_empty()).count() != 2 {
        return Err(format!(
            "the secret {name} holds no keys: it has the lines aws_access_key_id = … and aws_secret_access_key = …"
        ));
    }
    Ok(found)
}

impl S3 {
    pub(super) fn open(address: &Address) -> io::Result<S3> {
        let environment = AmazonS3Builder::from_env();
        let of_environment = |key| environment.get_config_value(&key).filter(|value| !value.is_empty());
        // A session token of the environment belongs to its own keys.
        let of_secret = keys(address).map_err(io::Error::other)?;
        let mut builder = if of_secret.is_empty() { environment.clone() } else { AmazonS3Builder::new() };
        for (key, value) in of_secret {
            builder = builder.with_config(key, value);
        }
        let region = address.region.clone().or_else(|| of_environment(AmazonS3ConfigKey::Region));
        let region = region.unwrap_or_else(|| REGION.to_owned());
        let endpoint = address.endpoint.clone().or_else(|| of_environment(AmazonS3ConfigKey::S3Endpoint));
        let endpoint = endpoint.or_else(|| of_environment(AmazonS3ConfigKey::Endpoint));
        // The machine's role, which would be asked for them, opens no store but AWS.
        if let Some(reason) = lacks(address).filter(|_| endpoint.is_some()) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        let is_path_style = address.path_style.unwrap_or(endpoint.is_some());
        let url = bucket_url(&address.bucket, endpoint.as_deref(), &region, is_path_style)?;
        let options = ClientOptions::new()
            .with_allow_http(url.starts_with("http://"))
            .with_timeout(REQUEST_TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT);
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(200),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_TIMEOUT,
        };
        // The crate takes the whole of it for the bucket's, if the name is in the host.
        builder = builder
            .with_virtual_hosted_style_request(true)
            .with_config(AmazonS3ConfigKey::S3Endpoint, url.clone())
            .with_bucket_name(&address.bucket)
            .with_region(&region)
            .with_client_options(options.clone())
            .with_retry(retry);
        let failed = |error: Error| io::Error::other(format!("cannot use {address}: {error}"));
        let store = Arc::new(builder.build().map_err(failed)?);
        let client = ReqwestConnector::default().connect(&options).map_err(failed)?;
        Ok(S3 { store, client, region, url, shown: address.to_string() })
    }

    /// Runs one request.
    fn ask<T, F>(&self, what: &str, key: &str, request: impl FnOnce(Arc<AmazonS3>, Path) -> F) -> Result<T, Failed>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let path = Path::parse(key).map_err(|error| Failed::of(io::Error::other(error.to_string())))?;
        let asked =
            waiting_for(|| self.shown.clone(), || wait(request(self.store.clone(), path))).map_err(Failed::of)?;
        asked.map_err(|error| self.failed(what, key, &error))
    }

    fn failed(&self, what: &str, key: &str, error: &Error) -> Failed {
        let text = whole(error);
        let code = between(&text, "<Code>", "</Code>").unwrap_or_default().to_owned();
        let (kind, to_do) = match (error, code.as_str()) {
            (_, "NoSuchBucket") => (io::ErrorKind::NotFound, "; make the bucket, or mend its name, endpoint or region"),
            (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken") => {
                (io::ErrorKind::PermissionDenied, "; look at the keys (AWS_ACCESS_KEY_ID, credentials) and the region")
            }
            (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, _) => (
                io::ErrorKind::PermissionDenied,
                "; the keys need s3:GetObject, s3:PutObject, s3:ListBucket, s3:ListBucketMultipartUploads and s3:AbortMultipartUpload there",
            ),
            (Error::AlreadyExists { .. } | Error::Precondition { .. }, _) => (io::ErrorKind::AlreadyExists, ""),
            (Error::NotFound { .. }, _) => (io::ErrorKind::NotFound, ""),
            _ => (io::ErrorKind::Other, ""),
        };
        // Where a machine is asked for its role.
        let to_do = if text.contains("169.254.169.254") {
            "; there are no keys in the environment of the daemon, and this machine has no role: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or credentials = \"NAME\""
        } else {
            to_do
        };
        let message = match (code.as_str(), between(&text, "<Message>", "</Message>")) {
            ("", _) => text.chars().take(MESSAGE_CHARS_MAX).collect(),
            (code, Some(message)) => format!("{code}: {message}"),
            (code, None) => code.to_owned(),
        };
        let place = if key.is_empty() { self.shown.clone() } else { format!("{}/{key}", self.shown) };
        Failed { code, error: io::Error::new(kind, format!("cannot {what} {place}: {message}{to_do}")) }
    }

    /// One page of uploads.
    fn page(&self, prefix: &str, from: Option<(String, String)>) -> io::Result<Page> {
        let mut url = format!("{}?prefix={}&uploads=", self.url, escaped(prefix));
        if let Some((key, id)) = from {
            url = format!(
                "{}?key-marker={}&prefix={}&upload-id-marker={}&uploads=",
                self.url,
                escaped(&key),
                escaped(prefix),
                escaped(&id)
            );
        }
        let (store, client, region) = (self.store.clone(), self.client.clone(), self.region.clone());
        let asked = async move {
            let credential = store.credentials().get_credential().await.map_err(|error| whole(&error))?;
            let mut request = HttpRequest::new(HttpRequestBody::empty());
            *request.uri_mut() = url.parse().map_err(|error| format!("{error}"))?;
            AwsAuthorizer::new(&credential, "s3", &region).authorize(&mut request, None);
            let answer = client.execute(request).await.map_err(|error| whole(&error))?;
            let status = answer.status();
            let body = answer.into_body().bytes().await.map_err(|error| whole(&error))?;
            Ok::<_, String>((status, body))
        };
        let answer = waiting_for(|| self.shown.clone(), || wait(asked))?;
        let told =
            |reason: String| io::Error::other(format!("cannot list the uploads of {}/{prefix}: {reason}", self.shown));
        let (status, body) = answer.map_err(told)?;
        let body = String::from_utf8_lossy(&body);
        if !status.is_success() {
            let code = between(&body, "<Code>", "</Code>").unwrap_or("no reason given");
            // How some stores say that there is none.
            if code == "NoSuchUpload" {
                return Ok(Page::default());
            }
            let to_do = match status.as_u16() {
                403 => "; the keys need s3:ListBucketMultipartUploads",
                501 => "; without that no store takes each row once: use one that lists multipart uploads",
                _ => "",
            };
            return Err(told(format!("{status}, {code}{to_do}")));
        }
        quick_xml::de::from_str(&body).map_err(|error| told(format!("its answer cannot be understood: {error}")))
    }
}

/// Where the bucket's objects are.
fn bucket_url(bucket: &str, endpoint: Option<&str>, region: &str, is_path_style: bool) -> io::Result<String> {
    let endpoint = endpoint.map_or_else(|| format!("https://s3.{region}.amazonaws.com"), str::to_owned);
    let endpoint = endpoint.trim_end_matches('/');
    match endpoint.split_once("://") {
        Some((scheme @ ("http" | "https"), host)) if !host.is_empty() => Ok(match is_path_style {
            true => format!("{endpoint}/{bucket}"),
            false => format!("{scheme}://{bucket}.{host}"),
        }),
        _ => Err(io::Error::other(format!("\"{endpoint}\" is no endpoint; write https://HOST or http://HOST:PORT"))),
    }
}

/// A request that failed, with the store's own word for it.
struct Failed {
    code: String,
    error: io::Error,
}

impl Failed {
    fn of(error: io::Error) -> Failed {
        Failed { code: String::new(), error }
    }
}

impl From<Failed> for io::Error {
    fn from(failed: Failed) -> io::Error {
        failed.error
    }
}

/// An error with all its causes.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(from)?;
    rest.split_once(to).map(|(found, _)| found)
}

/// As it stands in a query: what is signed and what is sent must be the same.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// `ListMultipartUploadsResult`
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(default)]
    upload: Vec<Listed>,
    #[serde(default)]
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    key: String,
    upload_id: String,
}

impl Objects for S3 {
    fn get(&self, key: &str) -> io::Result<Option<Note>> {
        let read = self.ask("read", key, |store, path| async move {
            let found = store.get(&path).await?;
            let tag = found.meta.e_tag.clone();
            Ok(Note { bytes: found.bytes().await?, tag })
        });
        match read {
            Ok(note) => Ok(Some(note)),
            Err(failed) if failed.error.kind() == io::ErrorKind::NotFound && failed.code != "NoSuchBucket" => Ok(None),
            Err(failed) => Err(failed.error),
        }
    }

    fn put(&self, key: &str, bytes: Bytes, before: Option<&Note>) -> io::Result<()> {
        let put = |mode: PutMode| {
            let payload = PutPayload::from(bytes.clone());
            self.ask("write", key, |store, path| async move {
                let options = PutOptions { mode, ..PutOptions::default() };
                store.put_opts(&path, payload, options).await.map(drop)
            })
        };
        let mode = match before {
            None => PutMode::Create,
            Some(note) => PutMode::Update(UpdateVersion { e_tag: note.tag.clone(), version: None }),
        };
        match put(mode) {
            // A store without conditions: what was read a moment ago has to do.
            Err(failed) if matches!(failed.code.as_str(), "NotImplemented" | "MethodNotAllowed") => {
                Ok(put(PutMode::Overwrite)?)
            }
            done => Ok(done?),
        }
    }

    fn size(&self, key: &str) -> io::Result<Option<u64>> {
        let head = self.ask("look at", key, |store, path| async move { store.head(&path).await.map(|meta| meta.size) });
        match head {
            Ok(size) => Ok(Some(size)),
            // It has no body that could say that it is the bucket; the next request says it.
            Err(failed) if failed.error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(failed) => Err(failed.error),
        }
    }

    fn sum(&self, key: &str) -> io::Result<(u64, u32)> {
        let size = self.size(key)?.unwrap_or(0);
        let (mut at, mut crc) = (0, 0);
        while at < size {
            let range = at..size.min(at + READ_SIZE);
            at = range.end;
            let bytes = self.ask("read", key, |store, path| async move { store.get_range(&path, range).await })?;
            crc = crc32c::crc32c_append(crc, &bytes);
        }
        Ok((size, crc))
    }

    fn begin(&self, key: &str) -> io::Result<String> {
        Ok(self.ask("begin", key, |store, path| async move { store.create_multipart(&path).await })?)
    }

    fn part(&self, key: &str, id: &str, number: usize, bytes: Bytes) -> io::Result<String> {
        let (id, payload) = (id.to_owned(), PutPayload::from(bytes));
        let put = |store: Arc<AmazonS3>, path: Path| async move {
            store.put_part(&path, &id, number, payload).await.map(|part| part.content_id)
        };
        Ok(self.ask("write a part of", key, put)?)
    }

    fn complete(&self, key: &str, id: &str, parts: &[String]) -> io::Result<bool> {
        let id = id.to_owned();
        let parts: Vec<PartId> = parts.iter().map(|part| PartId { content_id: part.clone() }).collect();
        let done = self.ask("complete", key, |store, path| async move {
            store.complete_multipart(&path, &id, parts).await.map(drop)
        });
        match done {
            Ok(()) => Ok(true),
            Err(failed) if failed.code == "NoSuchUpload" => Ok(false),
            Err(failed) => Err(failed.error),
        }
    }

    fn abort(&self, key: &str, id: &str) -> io::Result<()> {
        let id = id.to_owned();
        let ended =
            self.ask("end the upload of", key, |store, path| async move { store.abort_multipart(&path, &id).await });
        match ended {
            Err(failed) if failed.code == "NoSuchUpload" => Ok(()),
            done => Ok(done?),
        }
    }

    fn uploads(&self, prefix: &str) -> io::Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        let mut from = None;
        for _ in 0..PAGES_MAX {
            let page = self.page(prefix, from)?;
            found.extend(page.upload.into_iter().map(|listed| (listed.key, listed.upload_id)));
            from = page.next_key_marker.zip(page.next_upload_id_marker).filter(|_| page.is_truncated);
            if from.is_none() {
                break;
            }
        }
        // Some stores take the prefix for a whole key.
        found.retain(|(key, _)| key.starts_with(prefix));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(credentials: Option<&str>, pipeline: &std::path::Path) -> Address {
        Address {
            bucket: "b".to_owned(),
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            region: None,
            path_style: None,
            credentials: credentials.map(str::to_owned),
            pipeline: pipeline.to_owned(),
        }
    }

    #[test]
    fn the_bucket_stands_in_the_host_or_in_the_path() {
        let url = |endpoint, is_path_style| bucket_url("b", endpoint, "eu-west-1", is_path_style).unwrap();
        assert_eq!(url(None, false), "https://b.s3.eu-west-1.amazonaws.com");
        assert_eq!(url(None, true), "https://s3.eu-west-1.amazonaws.com/b");
        assert_eq!(url(Some("http://minio:9000/"), true), "http://minio:9000/b");
        assert_eq!(url(Some("https://r2.example"), false), "https://b.r2.example");
        assert!(bucket_url("b", Some("minio:9000"), "r", true).is_err());
    }

    #[test]
    fn keys_come_from_a_secret_and_a_broken_one_is_told_without_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        let at = address(Some("lake"), &file);
        assert!(lacks(&at).unwrap().contains("secrets/lake"));
        std::fs::create_dir(folder.path().join("secrets")).unwrap();
        let secret = folder.path().join("secrets/lake");
        std::fs::write(&secret, "hunter2\n").unwrap();
        let told = lacks(&at).unwrap();
        assert!(told.contains("aws_secret_access_key = ") && !told.contains("hunter2"), "{told}");
        std::fs::write(&secret, "[default]\naws_access_key_id = AK\naws_secret_access_key=S/K=\n").unwrap();
        assert_eq!(lacks(&at), None);
        assert_eq!(keys(&at).unwrap()[1].1, "S/K=");
    }

    #[test]
    fn a_store_that_is_not_there_is_told_in_bounded_time() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("secrets")).unwrap();
        std::fs::write(folder.path().join("secrets/k"), "aws_access_key_id=A\naws_secret_access_key=topsecret\n")
            .unwrap();
        let store = S3::open(&address(Some("k"), &folder.path().join("p.toml"))).unwrap();
        for error in [store.get("a/b").unwrap_err(), store.uploads("a").unwrap_err(), store.begin("a/b").unwrap_err()] {
            let text = error.to_string();
            assert!(text.contains("s3://b/a") && !text.contains("topsecret"), "{text}");
        }
    }

    #[test]
    fn a_page_of_uploads_is_read_with_none_and_with_several() {
        let none: Page = quick_xml::de::from_str("<ListMultipartUploadsResult><Bucket>b</Bucket><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>").unwrap();
        assert!(none.upload.is_empty() && !none.is_truncated);
        let two: Page = quick_xml::de::from_str("<?xml version=\"1.0\"?><ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Upload><Key>a</Key><UploadId>1</UploadId><Owner><ID>x</ID></Owner></Upload><NextKeyMarker>k</NextKeyMarker><IsTruncated>true</IsTruncated><NextUploadIdMarker>2</NextUploadIdMarker><Upload><Key>b&amp;c</Key><UploadId>2</UploadId></Upload></ListMultipartUploadsResult>").unwrap();
        assert_eq!((two.upload.len(), two.upload[1].key.as_str(), two.is_truncated), (2, "b&c", true));
    }
}
