//! Names of columns out of names of fields: lower case, told apart even where case is not looked at, and none that means something else.

use super::Field;
use std::collections::HashSet;

/// Keys of a pipeline file that a column in table form would be taken for, and what `[columns]` itself knows.
const TAKEN: [&str; 8] = ["from", "format", "where", "select", "to", "on-error", "rest", "from-schema"];
/// Characters of a name.
const NAME_MAX: usize = 60;

/// Gives every field the name of its column.
pub(super) fn give(fields: &mut [Field]) {
    let mut known: HashSet<String> = HashSet::new();
    for field in fields {
        let parts: Vec<String> = field.path.iter().map(|part| plain(part)).filter(|part| !part.is_empty()).collect();
        let mut name: String = parts.join("_").chars().take(NAME_MAX).collect();
        if name.is_empty() || TAKEN.contains(&name.as_str()) {
            name = if name.is_empty() { "field".to_owned() } else { format!("{name}_field") };
        }
        if name.starts_with(|first: char| first.is_numeric()) {
            name = format!("f_{name}");
        }
        let mut number = 1;
        let mut unique = name.clone();
        while !known.insert(unique.clone()) {
            number += 1;
            unique = format!("{name}_{number}");
        }
        field.column = unique;
    }
}

/// `userId` → `user_id`, `Größe (cm)` → `größe_cm`.
fn plain(name: &str) -> String {
    let mut out = String::new();
    let mut was_lower = false;
    for letter in name.chars() {
        if !letter.is_alphanumeric() {
            was_lower = false;
            if !out.is_empty() && !out.ends_with('_') {
                out.push('_');
            }
            continue;
        }
        if letter.is_uppercase() && was_lower {
            out.push('_');
        }
        was_lower = letter.is_lowercase() || letter.is_numeric();
        // What is left of a letter that has no small one is dropped: nobody could tell such names apart by case.
        out.extend(letter.to_lowercase().filter(|small| small.is_alphanumeric()));
    }
    out.trim_end_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::field;

    fn names(text: &str) -> Vec<String> {
        let object = serde_json::from_str(text).unwrap();
        let mut fields = field::of(&[&object]);
        super::give(&mut fields);
        fields.into_iter().map(|field| field.column).collect()
    }

    #[test]
    fn names_are_lower_case_and_differ() {
        let found = names(
            r#"{"userId":1,"UserID":2,"user id":3,"":4,"_key":5,"a.b":6,"a":{"b":7},"9x":8,"to":9,"rest":1,"Größe (cm)":2,"ＵＲＬ":3}"#,
        );
        let wanted = [
            "user_id",
            "user_id_2",
            "user_id_3",
            "field",
            "key",
            "a_b",
            "a_b_2",
            "f_9x",
            "to_field",
            "rest_field",
            "größe_cm",
            "ｕｒｌ",
        ];
        assert_eq!(found, wanted);
    }
}
