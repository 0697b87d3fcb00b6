//! Pages of lists: `page_size` and `page_token` with `Link` headers, and the legacy
//! `page` and `per_page` of Kratos with `X-Total-Count`, which only reach so far.

use std::fmt::Write as _;

use cardea_identity::page::PageRequest;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use crate::{error::ApiError, query::Query};

/// How many items a list had, where a legacy page was asked for.
pub const TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");

/// Most items on a page.
pub const PAGE_SIZE_MAX: u32 = 1000;
/// Items on a page if the caller does not say.
const PAGE_SIZE_DEFAULT: u32 = 250;
/// Most items on a legacy page.
const LEGACY_SIZE_MAX: u32 = 500;
/// The last item that legacy pages reach.
pub const LEGACY_ITEMS_MAX: u32 = 1000;

/// Which part of a list is wanted.
#[derive(Debug, Clone)]
pub enum Paging {
    /// By token.
    Token(PageRequest),
    /// By number.
    Legacy {
        /// Pages before it.
        page: u32,
        /// Items on a page.
        size: u32,
    },
}

impl Paging {
    /// Reads the parameters of a list. Those of the new style count first.
    ///
    /// # Errors
    /// 400 for a size that is no number, and for legacy pages that reach too far.
    pub fn of(query: &Query) -> Result<Self, ApiError> {
        if query.has("page_token") || query.has("page_size") {
            return Ok(Self::Token(PageRequest {
                size: size(query, "page_size")?,
                token: query.first("page_token").map(str::to_owned),
            }));
        }
        if query.has("page") {
            let page = number(query, "page")?.unwrap_or(0);
            // Page 1 is the first, and so is page 0.
            let page = page.saturating_sub(1);
            let size = match number(query, "per_page")? {
                None | Some(0) => PAGE_SIZE_DEFAULT,
                Some(size) => size.min(LEGACY_SIZE_MAX),
            };
            if page.saturating_mul(size) > LEGACY_ITEMS_MAX {
                return Err(ApiError::bad_request(format!(
                    "Legacy pagination is not supported for enumerating over {LEGACY_ITEMS_MAX} \
                     items. Please switch to using page_token and page_size."
                )));
            }
            return Ok(Self::Legacy { page, size });
        }
        Ok(Self::Token(PageRequest { size: size(query, "per_page")?, token: None }))
    }
}

/// Reads the parameters of a list that has pages by token alone; a legacy page is its first.
///
/// # Errors
/// See [`Paging::of`].
pub fn by_token(query: &Query) -> Result<PageRequest, ApiError> {
    Ok(match Paging::of(query)? {
        Paging::Token(wanted) => wanted,
        Paging::Legacy { size, .. } => PageRequest { size, token: None },
    })
}

fn size(query: &Query, name: &str) -> Result<u32, ApiError> {
    Ok(match number(query, name)? {
        None | Some(0) => PAGE_SIZE_DEFAULT,
        Some(size) => size.min(PAGE_SIZE_MAX),
    })
}

fn number(query: &Query, name: &str) -> Result<Option<u32>, ApiError> {
    let Some(text) = query.first(name) else { return Ok(None) };
    // However large, it is bounded; a negative or fractional one is none.
    match text.parse::<u64>() {
        Ok(number) => Ok(Some(u32::try_from(number).unwrap_or(u32::MAX))),
        Err(_) => Err(ApiError::malformed(format!("could not parse parameter {name}"))),
    }
}

/// Tells where the list begins and goes on.
pub fn link_by_token(headers: &mut HeaderMap, uri: &Uri, size: u32, next: Option<&str>) {
    let query = Query::parse(uri.query().unwrap_or_default());
    let link = |token: Option<&str>, rel: &str| {
        let mut rest = query.without(&["page_token", "page_size", "per_page"]);
        rest.append_pair("page_size", &size.to_string());
        if let Some(token) = token {
            rest.append_pair("page_token", token);
        }
        format!("<{}?{}>; rel=\"{rel}\"", uri.path(), rest.finish())
    };
    let mut links = link(None, "first");
    if let Some(next) = next {
        links.push(',');
        links.push_str(&link(Some(next), "next"));
    }
    insert(headers, header::LINK, &links);
}

/// Tells the neighbours of a legacy page, and how many items there are, if that is
/// known: beyond the reach of legacy pages nobody counts.
pub fn link_by_number(
    headers: &mut HeaderMap,
    uri: &Uri,
    page: u32,
    size: u32,
    total: Option<u32>,
) {
    let query = Query::parse(uri.query().unwrap_or_default());
    let last = total.map(|total| total.div_ceil(size).max(1) - 1);
    let mut links = String::new();
    let mut link = |number: u32, rel: &str| {
        let mut rest = query.without(&["page", "per_page"]);
        // As it is asked for: the first page is 1.
        rest.append_pair("page", &(number + 1).to_string());
        rest.append_pair("per_page", &size.to_string());
        let comma = if links.is_empty() { "" } else { "," };
        // Writing into a string cannot fail.
        let _ = write!(links, "{comma}<{}?{}>; rel=\"{rel}\"", uri.path(), rest.finish());
    };
    link(0, "first");
    if last.is_none_or(|last| page < last) {
        link(page + 1, "next");
    }
    if page > 0 {
        link(page - 1, "prev");
    }
    if let Some(last) = last {
        link(last, "last");
    }
    insert(headers, header::LINK, &links);
    if let Some(total) = total {
        headers.insert(TOTAL_COUNT, HeaderValue::from(total));
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paging(query: &str) -> Result<Paging, ApiError> {
        Paging::of(&Query::parse(query))
    }

    #[test]
    fn sizes_are_bounded_and_nonsense_is_refused() {
        let size = |query: &str| match paging(query).unwrap() {
            Paging::Token(page) => page.size,
            Paging::Legacy { .. } => panic!("{query} is a legacy page"),
        };
        let sizes = ["", "page_size=7", "page_size=0", "page_size=99999999999", "per_page=3"];
        assert_eq!(sizes.map(size), [250, 7, 250, 1000, 3]);
        for bad in ["page_size=x", "page_size=-1", "page=1.5", "per_page=a", "page=0x1"] {
            assert_eq!(paging(bad).unwrap_err().status(), 400, "{bad}");
        }
    }

    #[test]
    fn legacy_pages_reach_a_thousand_items() {
        let legacy = |query: &str| match paging(query) {
            Ok(Paging::Legacy { page, size }) => Some((page, size)),
            _ => None,
        };
        assert_eq!(legacy("page=0"), Some((0, 250)));
        assert_eq!(legacy("page=1&per_page=10"), Some((0, 10)));
        assert_eq!(legacy("page=3&per_page=10"), Some((2, 10)));
        assert_eq!(legacy("page=1&per_page=9999"), Some((0, 500)));
        assert_eq!(legacy("page=4&per_page=500"), None);
        assert_eq!(legacy("page=2&page_token=x"), None);
    }

    #[test]
    fn links_keep_the_other_parameters() {
        let mut headers = HeaderMap::new();
        let uri: Uri = "/admin/x?active=true&page_size=2&page_token=old".parse().unwrap();
        link_by_token(&mut headers, &uri, 2, Some("new"));
        assert_eq!(
            headers[header::LINK],
            "</admin/x?active=true&page_size=2>; rel=\"first\",\
             </admin/x?active=true&page_size=2&page_token=new>; rel=\"next\""
        );
        link_by_token(&mut headers, &uri, 2, None);
        assert_eq!(headers[header::LINK], "</admin/x?active=true&page_size=2>; rel=\"first\"");
        let uri: Uri = "/sessions?page=2&per_page=2".parse().unwrap();
        link_by_number(&mut headers, &uri, 1, 2, Some(5));
        assert_eq!(
            headers[header::LINK],
            "</sessions?page=1&per_page=2>; rel=\"first\",\
             </sessions?page=3&per_page=2>; rel=\"next\",\
             </sessions?page=1&per_page=2>; rel=\"prev\",\
             </sessions?page=3&per_page=2>; rel=\"last\""
        );
        assert_eq!(headers[TOTAL_COUNT], "5");
    }
}
