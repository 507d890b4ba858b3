//! Programs that were built against the released API keep working: whatever
//! `tests/released/dfs.proto` says still holds in `dfs.proto`, which may only add to it.

use std::collections::BTreeMap;
use std::path::Path;

use dfs_proto::wire::status::Reason;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};

/// What programs rely on: a name, and what it must be.
type Promises = BTreeMap<String, String>;

/// Something that is done to the API.
type Change = fn(&mut FileDescriptorProto);

fn compile(dir: &str) -> FileDescriptorProto {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let set = protox::compile([dir.join("dfs.proto")], [&dir]).expect("it compiles");
    set.file.into_iter().find(|file| file.name() == "dfs.proto").expect("it is there")
}

fn promises(file: &FileDescriptorProto) -> Promises {
    let mut promises = Promises::new();
    let package = file.package().to_owned();
    promises.insert("package".to_owned(), package.clone());
    for message in &file.message_type {
        add_message(&package, message, &mut promises);
    }
    for each in &file.enum_type {
        add_enum(&package, each, &mut promises);
    }
    for service in &file.service {
        for method in &service.method {
            let stream = |streams: bool| if streams { "stream " } else { "" };
            let text = format!(
                "{}{} to {}{}",
                stream(method.client_streaming()),
                method.input_type(),
                stream(method.server_streaming()),
                method.output_type()
            );
            promises.insert(format!("{package}.{}/{}", service.name(), method.name()), text);
        }
    }
    promises
}

/// The wire knows fields by number and JSON by name: both stay.
fn add_message(scope: &str, message: &DescriptorProto, promises: &mut Promises) {
    let name = format!("{scope}.{}", message.name());
    for field in &message.field {
        let oneof = field.oneof_index.filter(|_| !field.proto3_optional());
        let oneof = oneof.and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?));
        let text = format!(
            "{} {:?} {:?} {} optional: {} oneof: {}",
            field.name(),
            field.r#type(),
            field.label(),
            field.type_name(),
            field.proto3_optional(),
            oneof.map_or("", |oneof| oneof.name()),
        );
        promises.insert(format!("{name} = {}", field.number()), text);
    }
    for nested in &message.nested_type {
        add_message(&name, nested, promises);
    }
    for nested in &message.enum_type {
        add_enum(&name, nested, promises);
    }
}

fn add_enum(scope: &str, each: &EnumDescriptorProto, promises: &mut Promises) {
    for value in &each.value {
        let key = format!("{scope}.{} = {}", each.name(), value.number());
        promises.insert(key, value.name().to_owned());
    }
}

fn broken(released: &Promises, now: &Promises) -> Vec<String> {
    let other = |(key, was): (&String, &String)| match now.get(key) {
        Some(is) if is == was => None,
        Some(is) => Some(format!("{key} was `{was}`, is `{is}`")),
        None => Some(format!("{key} was `{was}`, is gone")),
    };
    released.iter().filter_map(other).collect()
}

#[test]
fn the_released_api_still_holds() {
    let broken = broken(&promises(&compile("../tests/released")), &promises(&compile(".")));
    assert!(broken.is_empty(), "programs in use would break:\n{}", broken.join("\n"));
}

#[test]
fn changes_that_break_programs_are_found() {
    let file = compile("../tests/released");
    let released = promises(&file);
    assert!(released.len() > 200, "{} promises only", released.len());
    let breaks: [(&str, Change); 8] = [
        ("a field is gone", |file| drop(file.message_type[0].field.remove(0))),
        ("a field has another number", |file| file.message_type[0].field[0].number = Some(99)),
        ("a field has another name", |file| {
            file.message_type[0].field[0].name = Some("other".to_owned());
        }),
        ("a field has another type", |file| {
            file.message_type[0].field[1]
                .set_type(prost_types::field_descriptor_proto::Type::Sint32);
        }),
        ("a message is gone", |file| drop(file.message_type.remove(3))),
        ("an enum value is gone", |file| drop(file.enum_type[0].value.pop())),
        ("a method is gone", |file| drop(file.service[0].method.pop())),
        ("a method streams", |file| file.service[0].method[0].server_streaming = Some(true)),
    ];
    for (what, change) in breaks {
        let mut changed = file.clone();
        change(&mut changed);
        assert!(!broken(&released, &promises(&changed)).is_empty(), "{what}");
    }
    let mut more = file.clone();
    more.message_type[0].field.push(prost_types::FieldDescriptorProto {
        name: Some("new".to_owned()),
        number: Some(100),
        ..Default::default()
    });
    assert!(broken(&released, &promises(&more)).is_empty(), "a new field breaks nothing");
}

#[test]
fn the_document_explains_every_error() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let text = std::fs::read_to_string(file).expect("it is there");
    for reason in Reason::ALL {
        let code = snake(&format!("{:?}", reason.code()));
        let row = format!("\n| {} | {code} |", reason.name());
        assert_eq!(text.matches(&row).count(), 1, "docs/protocol.md needs a row {row:?}");
    }
}

/// `InvalidArgument` to `INVALID_ARGUMENT`.
fn snake(name: &str) -> String {
    let words = name.chars().enumerate().map(|(place, letter)| match letter {
        upper if upper.is_uppercase() && place > 0 => format!("_{upper}"),
        other => other.to_uppercase().to_string(),
    });
    words.collect()
}
