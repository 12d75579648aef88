//! Reading request headers that may appear once.

use actix_web::HttpRequest;
use actix_web::http::header::HeaderValue;

use crate::api::problem::{Code, Problem};

/// Returns the value of a header, or `None` without it. 400 for a request that has the header more than once.
pub(crate) fn single_header<'a>(
    request: &'a HttpRequest,
    name: &str,
) -> Result<Option<&'a HeaderValue>, Problem> {
    let mut values = request.headers().get_all(name);
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(Problem::new(
            Code::InvalidHeader,
            format!("the header {name} appears more than once; send it once"),
        )),
    }
}
