-- What the release before the history of changes wrote, at revision secretstore_0002: commit b89e5d6, by its own clients,
-- and then read out row by row.  Only the day was changed, so that all of it lies in the past.  It was written like this,
-- where `store` is a client for the actor alice, and the master key is the one in release_0002.keys:
--
--   store.set_secret("db.password", "one", labels={"team": "web"})
--   store.set_secret("db.password", {"password": "two", "user": "app"})
--   store.set_secret("db.password", {"password": "three", "user": "app"}, labels={"team": "data", "tier": "1"})
--   store.set_secrets(
--       {"flags.none": None, "flags.empty": "", "flags.zero": 0, "flags.no": False, "ключ/中": ["é", "💥"]},
--       labels={"kind": "flag"},
--   )
--   store.set_secret("expired", "was there", expires_at=datetime(2020, 1, 1, tzinfo=UTC))
--   store.set_secret("expires.later", "still there", expires_at=datetime(2999, 1, 1, tzinfo=UTC))
--   store.set_secret("deleted", "first")
--   store.set_secret("deleted", "second", labels={"team": "web"})
--   store.delete_secret("deleted")
--   store.set_secret("deleted.again", "before")
--   store.delete_secret("deleted.again")
--   store.set_secret("deleted.again", "after")
--   with Session(engine) as session, session.begin():
--       own = SecretClient(engine, keyring, actor="bob").bind(session)
--       own.set_secret("brief", "set and deleted in one transaction")
--       own.delete_secret("brief")
--       own.set_secret("twice", "first of one transaction")
--       own.set_secret("twice", "second of one transaction")
--   rotated = store.namespace("rotated")
--   rotated.set_secrets({f"k{n}": [n, "first"] for n in range(6)})
--   rotated.set_secret("k0", [0, "second"])
--   rotated.delete_secret("k1")
--   rotated.keys.rotate()
--   rotated.set_secret("k2", [2, "after the rotation"])
--   rotated.keys.rotate()  # broken off after nine steps
--   rotated.set_secret("k3", [3, "under the newest key"])
--   shredded = store.namespace("shredded")
--   shredded.set_secret("lost", "gone for good")
--   shredded.set_secret("lost", "gone for good too")
--   shredded.keys.shred()
--   shredded.set_secret("anew", "written afterwards")

INSERT INTO secretstore.data_key
(namespace, id, wrapped, state, created_at, retired_at, shredded_at, wrapped_at) VALUES
('default', '478ac270-3935-4c89-823a-6de800bb7636', '{"v": 1, "alg": "A256GCM", "key": "only-for-tests", "data": "SEiZO1Io19C4wDxOWLoK8v50e8lkYqcDq51RFCYSkTKadOuJUync/nm3kIRu2Mmj", "nonce": "hRrsAsCte2w6Z2uF"}', 'active', '2025-06-01 12:51:02.90896+00', NULL, NULL, '2025-06-01 12:51:02.90896+00'),
('rotated', '0843a7c0-2cb2-46ae-a9ff-44ab6b1f09c8', '{"v": 1, "alg": "A256GCM", "key": "only-for-tests", "data": "WBvN1cPZC0ColEJqvO1TFNuVywB9QLzzpAxTKFD14giX51RlCkXHF2d3St+hlIXV", "nonce": "0hzev9ODRW5bN8e4"}', 'retired', '2025-06-01 12:51:03.032088+00', '2025-06-01 12:51:03.04369+00', NULL, '2025-06-01 12:51:03.032088+00'),
('rotated', '32a61efd-bc84-4e33-9484-dd5904ee0de2', '{"v": 1, "alg": "A256GCM", "key": "only-for-tests", "data": "HXxYOtJq50oSLL4AHAlSJJktU/BXf4DlDFWiY7M/3XlRM9npiMzWFI2pdiG3eYi4", "nonce": "CgBDowdk4NYybohH"}', 'retired', '2025-06-01 12:51:03.04369+00', '2025-06-01 12:51:03.091489+00', NULL, '2025-06-01 12:51:03.04369+00'),
('rotated', '2dde8452-a200-41fa-a397-22900efc499e', '{"v": 1, "alg": "A256GCM", "key": "only-for-tests", "data": "3K5OJIyPVoqW3tXoO1Eb8F5f8pkV79TXIgCVH2+Dj88a6J2nmstL6N98LwQw6y9X", "nonce": "ra7/OooKljpoHUsB"}', 'active', '2025-06-01 12:51:03.091489+00', NULL, NULL, '2025-06-01 12:51:03.091489+00'),
('shredded', 'de7f20a6-bbaf-4173-a0db-d12f9ea731f4', '{"v": 1, "alg": "shredded"}', 'retired', '2025-06-01 12:51:03.100254+00', '2025-06-01 12:51:03.108257+00', '2025-06-01 12:51:03.108257+00', '2025-06-01 12:51:03.100254+00'),
('shredded', '056f7a1f-bcd3-4f6d-893c-6d138941c291', '{"v": 1, "alg": "A256GCM", "key": "only-for-tests", "data": "wc5FYmi7r97+0u37xpt4AJ48D0mMmnx0DGjZG99U1kQplGe012jauyt1GW3jZR85", "nonce": "bC9owRypiXKBoXEj"}', 'active', '2025-06-01 12:51:03.118719+00', NULL, NULL, '2025-06-01 12:51:03.118719+00');

INSERT INTO secretstore.secret_store
(namespace, key, value, version, labels, expires_at, deleted_at, created_at, created_by, updated_at, updated_by) VALUES
('default', 'db.password', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "3zcsOQYrIfCmVaRag24wY5FZFz3hsmmJ24J51K6EfXSL1AecclIW7awx8NiTOQFN1w==", "nonce": "JajiPWz64ivzOojP"}', '3', '{"team": "data", "tier": "1"}', NULL, NULL, '2025-06-01 12:51:02.90896+00', 'alice', '2025-06-01 12:51:02.926052+00', 'alice'),
('default', 'flags.empty', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "B47VCcJ6X1KO+O6XMKuHchat", "nonce": "yUXOWXGjOoSz8IcT"}', '1', '{"kind": "flag"}', NULL, NULL, '2025-06-01 12:51:02.928267+00', 'alice', '2025-06-01 12:51:02.928267+00', 'alice'),
('default', 'flags.no', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "KECinTp/7CvUGrZaEjR/o99ocryL", "nonce": "DZXhdc+eb/3dMJyr"}', '1', '{"kind": "flag"}', NULL, NULL, '2025-06-01 12:51:02.928267+00', 'alice', '2025-06-01 12:51:02.928267+00', 'alice'),
('default', 'flags.none', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "nDenH6PtV7elGulsnmVm86F51P4=", "nonce": "Y5Rk7BLCdjB23BYz"}', '1', '{"kind": "flag"}', NULL, NULL, '2025-06-01 12:51:02.928267+00', 'alice', '2025-06-01 12:51:02.928267+00', 'alice'),
('default', 'flags.zero', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "KllxcOlFxIAQj8rsUBSy2gQ=", "nonce": "QbOD3a5lkoV2vdp4"}', '1', '{"kind": "flag"}', NULL, NULL, '2025-06-01 12:51:02.928267+00', 'alice', '2025-06-01 12:51:02.928267+00', 'alice'),
('default', 'ключ/中', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "h6ZSPkpi8nr9FzY0LrjH+npAe9yI0N0iP+1ySeI=", "nonce": "isSG9uo9FPScS55a"}', '1', '{"kind": "flag"}', NULL, NULL, '2025-06-01 12:51:02.928267+00', 'alice', '2025-06-01 12:51:02.928267+00', 'alice'),
('default', 'expired', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "Vm7UZvhUOerKBPZE2ud8Pv823QHnt+iF7ApL", "nonce": "ezMLqQRDsWUp32ka"}', '1', '{}', '2020-01-01 00:00:00+00', NULL, '2025-06-01 12:51:02.933174+00', 'alice', '2025-06-01 12:51:02.933174+00', 'alice'),
('default', 'expires.later', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "OmHh2RakOv4sFGoCdy6upXAUpuwPmLBlb2uxzjs=", "nonce": "onzaCyw+M7myoXjB"}', '1', '{}', '2999-01-01 00:00:00+00', NULL, '2025-06-01 12:51:02.935427+00', 'alice', '2025-06-01 12:51:02.935427+00', 'alice'),
('default', 'deleted', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "JAS+a7i86mOMGrhoTdxexp6pT8J//bro", "nonce": "ADwqylBF7EWJZbGB"}', '2', '{"team": "web"}', NULL, '2025-06-01 12:51:03.011766+00', '2025-06-01 12:51:02.93739+00', 'alice', '2025-06-01 12:51:03.011766+00', 'alice'),
('default', 'deleted.again', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "3DzLUZzv8VClZ/KOMlPV0W+RxIdzSl4=", "nonce": "pV6b445Kek4km1e2"}', '2', '{}', NULL, NULL, '2025-06-01 12:51:03.014788+00', 'alice', '2025-06-01 12:51:03.023312+00', 'alice'),
('default', 'brief', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "b5cZQSO2AnP+0acy7vkkfruXaMnMREC2qx4b3Cpq3GnkJBVp3rXmup5skB9fsqf/lpPc5g==", "nonce": "hM5eKUw+Y42benie"}', '1', '{}', NULL, '2025-06-01 12:51:03.025926+00', '2025-06-01 12:51:03.025926+00', 'bob', '2025-06-01 12:51:03.025926+00', 'bob'),
('default', 'twice', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "g1nxY5cNZDxj6Bv9brJ/vuMBnGKTlw7nr+Gi6vV2Ke5fggOBMv/OfpXmNg==", "nonce": "W7tSwuUZ4XGPjMHL"}', '2', '{}', NULL, NULL, '2025-06-01 12:51:03.025926+00', 'bob', '2025-06-01 12:51:03.025926+00', 'bob'),
('rotated', 'k0', '{"v": 1, "alg": "A256GCM", "key": "32a61efd-bc84-4e33-9484-dd5904ee0de2", "data": "IRsW7QVo8hfkf/5sf1AsDrRq2WZzjZNtoY83pQ==", "nonce": "IIAcJno/6VNiZotN"}', '2', '{}', NULL, NULL, '2025-06-01 12:51:03.032088+00', 'alice', '2025-06-01 12:51:03.035307+00', 'alice'),
('rotated', 'k1', '{"v": 1, "alg": "A256GCM", "key": "32a61efd-bc84-4e33-9484-dd5904ee0de2", "data": "Lop7oJjiEf9/oX448gNIrynw7in+ZbpjZ3/J", "nonce": "to58wkhyt9QTMefB"}', '1', '{}', NULL, '2025-06-01 12:51:03.037204+00', '2025-06-01 12:51:03.032088+00', 'alice', '2025-06-01 12:51:03.037204+00', 'alice'),
('rotated', 'k2', '{"v": 1, "alg": "A256GCM", "key": "32a61efd-bc84-4e33-9484-dd5904ee0de2", "data": "Si7+2ssATQ06z/REk2WTABPjIrEdczws+HLtQo7ytiF5E49yCDSaqA==", "nonce": "DIOljgnrclAauT1G"}', '2', '{}', NULL, NULL, '2025-06-01 12:51:03.032088+00', 'alice', '2025-06-01 12:51:03.088781+00', 'alice'),
('rotated', 'k3', '{"v": 1, "alg": "A256GCM", "key": "2dde8452-a200-41fa-a397-22900efc499e", "data": "YjPYv926CMxpNkWGeKi/0/rvQ7uI3mVBjC3x9kVneN8gsmmh2emN1mtV", "nonce": "u35cE0B9P6nh35Jr"}', '2', '{}', NULL, NULL, '2025-06-01 12:51:03.032088+00', 'alice', '2025-06-01 12:51:03.097556+00', 'alice'),
('rotated', 'k4', '{"v": 1, "alg": "A256GCM", "key": "32a61efd-bc84-4e33-9484-dd5904ee0de2", "data": "dLkPRvQQ+i8JI4cipZdtLhmchh75RqcWkIhh", "nonce": "Z4+pPDqrGQJeD6No"}', '1', '{}', NULL, NULL, '2025-06-01 12:51:03.032088+00', 'alice', '2025-06-01 12:51:03.032088+00', 'alice'),
('rotated', 'k5', '{"v": 1, "alg": "A256GCM", "key": "32a61efd-bc84-4e33-9484-dd5904ee0de2", "data": "O3RwL+WZECTKKyfqythG9stBadM0pk+UUUAk", "nonce": "7GY4wfdTnI71EPTp"}', '1', '{}', NULL, NULL, '2025-06-01 12:51:03.032088+00', 'alice', '2025-06-01 12:51:03.032088+00', 'alice'),
('shredded', 'lost', '{"v": 1, "alg": "shredded", "key": "de7f20a6-bbaf-4173-a0db-d12f9ea731f4"}', '2', '{}', NULL, NULL, '2025-06-01 12:51:03.100254+00', 'alice', '2025-06-01 12:51:03.105666+00', 'alice'),
('shredded', 'anew', '{"v": 1, "alg": "A256GCM", "key": "056f7a1f-bcd3-4f6d-893c-6d138941c291", "data": "tMB1awBg49PCbJ7akIoAfZDsWg6MgxG1UT+/Lzvy6WAfTQbh", "nonce": "RBUCGgZilHBE4sdS"}', '1', '{}', NULL, NULL, '2025-06-01 12:51:03.118719+00', 'alice', '2025-06-01 12:51:03.118719+00', 'alice');

INSERT INTO secretstore.secret_version
(namespace, key, version, value, labels, expires_at, created_at, created_by, destroyed_at) VALUES
('default', 'db.password', '1', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "aGyj8qSbiRwnvGLO6mN8MRqlxgvY", "nonce": "qV9gNalvGYSE4yC+"}', '{"team": "web"}', NULL, '2025-06-01 12:51:02.90896+00', 'alice', NULL),
('default', 'db.password', '2', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "ljOBSeMuxW8uIX20riMDnyuxuLusoZaIvT0MBznSr07QiUyza2Z8d/t2FxfptRQ=", "nonce": "89i6RzB5jFZprulr"}', '{"team": "web"}', NULL, '2025-06-01 12:51:02.923231+00', 'alice', NULL),
('default', 'db.password', '3', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "3zcsOQYrIfCmVaRag24wY5FZFz3hsmmJ24J51K6EfXSL1AecclIW7awx8NiTOQFN1w==", "nonce": "JajiPWz64ivzOojP"}', '{"team": "data", "tier": "1"}', NULL, '2025-06-01 12:51:02.926052+00', 'alice', NULL),
('default', 'flags.empty', '1', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "B47VCcJ6X1KO+O6XMKuHchat", "nonce": "yUXOWXGjOoSz8IcT"}', '{"kind": "flag"}', NULL, '2025-06-01 12:51:02.928267+00', 'alice', NULL),
('default', 'flags.no', '1', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "KECinTp/7CvUGrZaEjR/o99ocryL", "nonce": "DZXhdc+eb/3dMJyr"}', '{"kind": "flag"}', NULL, '2025-06-01 12:51:02.928267+00', 'alice', NULL),
('default', 'flags.none', '1', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "nDenH6PtV7elGulsnmVm86F51P4=", "nonce": "Y5Rk7BLCdjB23BYz"}', '{"kind": "flag"}', NULL, '2025-06-01 12:51:02.928267+00', 'alice', NULL),
('default', 'flags.zero', '1', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "KllxcOlFxIAQj8rsUBSy2gQ=", "nonce": "QbOD3a5lkoV2vdp4"}', '{"kind": "flag"}', NULL, '2025-06-01 12:51:02.928267+00', 'alice', NULL),
('default', 'ключ/中', '1', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "h6ZSPkpi8nr9FzY0LrjH+npAe9yI0N0iP+1ySeI=", "nonce": "isSG9uo9FPScS55a"}', '{"kind": "flag"}', NULL, '2025-06-01 12:51:02.928267+00', 'alice', NULL),
('default', 'expired', '1', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "Vm7UZvhUOerKBPZE2ud8Pv823QHnt+iF7ApL", "nonce": "ezMLqQRDsWUp32ka"}', '{}', '2020-01-01 00:00:00+00', '2025-06-01 12:51:02.933174+00', 'alice', NULL),
('default', 'expires.later', '1', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "OmHh2RakOv4sFGoCdy6upXAUpuwPmLBlb2uxzjs=", "nonce": "onzaCyw+M7myoXjB"}', '{}', '2999-01-01 00:00:00+00', '2025-06-01 12:51:02.935427+00', 'alice', NULL),
('default', 'deleted', '1', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "Lo5GeTatr55+WIexbbVcdPLLYiRcnFw=", "nonce": "P3dc8wnnJCCUuNgu"}', '{}', NULL, '2025-06-01 12:51:02.93739+00', 'alice', NULL),
('default', 'deleted', '2', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "JAS+a7i86mOMGrhoTdxexp6pT8J//bro", "nonce": "ADwqylBF7EWJZbGB"}', '{"team": "web"}', NULL, '2025-06-01 12:51:02.939222+00', 'alice', NULL),
('default', 'deleted.again', '1', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "IGFCiqSETaF+72i4+HBUYUb3QBD+edV3", "nonce": "XZekPyCejCTM2Q0I"}', '{}', NULL, '2025-06-01 12:51:03.014788+00', 'alice', NULL),
('default', 'deleted.again', '2', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "3DzLUZzv8VClZ/KOMlPV0W+RxIdzSl4=", "nonce": "pV6b445Kek4km1e2"}', '{}', NULL, '2025-06-01 12:51:03.023312+00', 'alice', NULL),
('default', 'brief', '1', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "b5cZQSO2AnP+0acy7vkkfruXaMnMREC2qx4b3Cpq3GnkJBVp3rXmup5skB9fsqf/lpPc5g==", "nonce": "hM5eKUw+Y42benie"}', '{}', NULL, '2025-06-01 12:51:03.025926+00', 'bob', NULL),
('default', 'twice', '1', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "jjbV1rgeDSuuP+ja1nFeIW5u2+LuphpXg5QvNAkGZniUzvYsMlyOiKsH", "nonce": "zjfAmWRGfQTRI5e0"}', '{}', NULL, '2025-06-01 12:51:03.025926+00', 'bob', NULL),
('default', 'twice', '2', '{"v": 1, "alg": "A256GCM", "key": "478ac270-3935-4c89-823a-6de800bb7636", "data": "g1nxY5cNZDxj6Bv9brJ/vuMBnGKTlw7nr+Gi6vV2Ke5fggOBMv/OfpXmNg==", "nonce": "W7tSwuUZ4XGPjMHL"}', '{}', NULL, '2025-06-01 12:51:03.025926+00', 'bob', NULL),
('rotated', 'k0', '1', '{"v": 1, "alg": "A256GCM", "key": "2dde8452-a200-41fa-a397-22900efc499e", "data": "lCtRIfoVFzuVMqSFeHiVQXHprAcg4800lkjA", "nonce": "Lp7/6LlWiB1WeCiK"}', '{}', NULL, '2025-06-01 12:51:03.032088+00', 'alice', NULL),
('rotated', 'k1', '1', '{"v": 1, "alg": "A256GCM", "key": "2dde8452-a200-41fa-a397-22900efc499e", "data": "7HCsSsH9YcAoKdd9Li21ezqi3qq/z9jFRV4I", "nonce": "RX2NhhIO0gOjoy7k"}', '{}', NULL, '2025-06-01 12:51:03.032088+00', 'alice', NULL),
('rotated', 'k2', '1', '{"v": 1, "alg": "A256GCM", "key": "2dde8452-a200-41fa-a397-22900efc499e", "data": "UizfXXVI4NHtWY5UZTme4Z378EMjbXN2m1xG", "nonce": "IJfTEj26lc+HKrin"}', '{}', NULL, '2025-06-01 12:51:03.032088+00', 'alice', NULL),
('rotated', 'k3', '1', '{"v": 1, "alg": "A256GCM", "key": "32a61efd-bc84-4e33-9484-dd5904ee0de2", "data": "V2/Bwx41dvN2qp1UtQaQ4rUxHB4Uc0CAFiiN", "nonce": "8pua8+PbHAymLGGn"}', '{}', NULL, '2025-06-01 12:51:03.032088+00', 'alice', NULL),
('rotated', 'k4', '1', '{"v": 1, "alg": "A256GCM", "key": "32a61efd-bc84-4e33-9484-dd5904ee0de2", "data": "KLNR5PpJhovuAJ2F3Kzx0hhkM0zOKJF+BNFi", "nonce": "duiuEWmSYz3hF79E"}', '{}', NULL, '2025-06-01 12:51:03.032088+00', 'alice', NULL),
('rotated', 'k5', '1', '{"v": 1, "alg": "A256GCM", "key": "32a61efd-bc84-4e33-9484-dd5904ee0de2", "data": "xXHbROOCwk+BexkkKNWWmf8a4/Bp+Hfi0syV", "nonce": "U+gTqgIVbRibrMG5"}', '{}', NULL, '2025-06-01 12:51:03.032088+00', 'alice', NULL),
('rotated', 'k0', '2', '{"v": 1, "alg": "A256GCM", "key": "2dde8452-a200-41fa-a397-22900efc499e", "data": "goq6OEdGsphwC82+ztqBiy/hSiVNZK5zbgX2HA==", "nonce": "TOWgGuj0vvTCQgoj"}', '{}', NULL, '2025-06-01 12:51:03.035307+00', 'alice', NULL),
('rotated', 'k2', '2', '{"v": 1, "alg": "A256GCM", "key": "32a61efd-bc84-4e33-9484-dd5904ee0de2", "data": "Si7+2ssATQ06z/REk2WTABPjIrEdczws+HLtQo7ytiF5E49yCDSaqA==", "nonce": "DIOljgnrclAauT1G"}', '{}', NULL, '2025-06-01 12:51:03.088781+00', 'alice', NULL),
('rotated', 'k3', '2', '{"v": 1, "alg": "A256GCM", "key": "2dde8452-a200-41fa-a397-22900efc499e", "data": "YjPYv926CMxpNkWGeKi/0/rvQ7uI3mVBjC3x9kVneN8gsmmh2emN1mtV", "nonce": "u35cE0B9P6nh35Jr"}', '{}', NULL, '2025-06-01 12:51:03.097556+00', 'alice', NULL),
('shredded', 'lost', '1', '{"v": 1, "alg": "shredded", "key": "de7f20a6-bbaf-4173-a0db-d12f9ea731f4"}', '{}', NULL, '2025-06-01 12:51:03.100254+00', 'alice', NULL),
('shredded', 'lost', '2', '{"v": 1, "alg": "shredded", "key": "de7f20a6-bbaf-4173-a0db-d12f9ea731f4"}', '{}', NULL, '2025-06-01 12:51:03.105666+00', 'alice', NULL),
('shredded', 'anew', '1', '{"v": 1, "alg": "A256GCM", "key": "056f7a1f-bcd3-4f6d-893c-6d138941c291", "data": "tMB1awBg49PCbJ7akIoAfZDsWg6MgxG1UT+/Lzvy6WAfTQbh", "nonce": "RBUCGgZilHBE4sdS"}', '{}', NULL, '2025-06-01 12:51:03.118719+00', 'alice', NULL);

INSERT INTO secretstore.change_event
(namespace, id, key, version, action, actor, occurred_at, seq) VALUES
('default', 'fcb85dbe-83b0-493e-a984-90e41296f652', 'db.password', '1', 'set', 'alice', '2025-06-01 12:51:02.90896+00', NULL),
('default', '7c26b989-2f9f-422e-913e-0764dc6e7f0c', 'db.password', '2', 'set', 'alice', '2025-06-01 12:51:02.923231+00', NULL),
('default', 'dfcb5280-9681-4714-b764-d239b5ff945f', 'db.password', '3', 'set', 'alice', '2025-06-01 12:51:02.926052+00', NULL),
('default', '8adf074a-de1a-4de2-a6ed-b4a3ed86b4f8', 'flags.empty', '1', 'set', 'alice', '2025-06-01 12:51:02.928267+00', NULL),
('default', 'de0d2923-3fd6-45ac-a885-b0b225c5e630', 'flags.no', '1', 'set', 'alice', '2025-06-01 12:51:02.928267+00', NULL),
('default', '0bf5173d-b0d3-4b2d-8c00-2064bd609ffd', 'flags.none', '1', 'set', 'alice', '2025-06-01 12:51:02.928267+00', NULL),
('default', 'ee3081cd-864b-4cf9-a8bf-8b77544acdef', 'flags.zero', '1', 'set', 'alice', '2025-06-01 12:51:02.928267+00', NULL),
('default', '768b464e-ddf9-4d05-a261-24f874aba778', 'ключ/中', '1', 'set', 'alice', '2025-06-01 12:51:02.928267+00', NULL),
('default', 'f7c6d6ed-470c-4e6f-b890-f9c8d4dab29a', 'expired', '1', 'set', 'alice', '2025-06-01 12:51:02.933174+00', NULL),
('default', 'ffa45a05-56dd-4233-b86d-7857e08861e5', 'expires.later', '1', 'set', 'alice', '2025-06-01 12:51:02.935427+00', NULL),
('default', '17ab05bf-8bb6-46f4-a1d4-912cd7a7b781', 'deleted', '1', 'set', 'alice', '2025-06-01 12:51:02.93739+00', NULL),
('default', '4993cac0-bdac-4652-b6f6-626a979035ca', 'deleted', '2', 'set', 'alice', '2025-06-01 12:51:02.939222+00', NULL),
('default', '1f8f5ec0-266c-4a50-90bd-9110bd5835ec', 'deleted', '2', 'delete', 'alice', '2025-06-01 12:51:03.011766+00', NULL),
('default', 'a6c07e4b-1fd2-404a-a644-609cf740116b', 'deleted.again', '1', 'set', 'alice', '2025-06-01 12:51:03.014788+00', NULL),
('default', '7c1768ba-d02c-428c-8c70-157c365f565e', 'deleted.again', '1', 'delete', 'alice', '2025-06-01 12:51:03.018555+00', NULL),
('default', '14e59f3e-99c1-4fea-9750-f187954c9c24', 'deleted.again', '2', 'set', 'alice', '2025-06-01 12:51:03.023312+00', NULL),
('default', 'f96bd572-cb56-4caa-ac5b-e83143ef9c1b', 'brief', '1', 'set', 'bob', '2025-06-01 12:51:03.025926+00', NULL),
('default', 'c2b0fec1-1335-4a74-8c36-325ed1008ec4', 'brief', '1', 'delete', 'bob', '2025-06-01 12:51:03.025926+00', NULL),
('default', '6d2ab4a1-b796-491b-ae71-8ef0db1bbe48', 'twice', '1', 'set', 'bob', '2025-06-01 12:51:03.025926+00', NULL),
('default', 'fabca18f-5a55-42a0-b6f3-549df6557e11', 'twice', '2', 'set', 'bob', '2025-06-01 12:51:03.025926+00', NULL),
('rotated', '5630e68b-4a5a-4434-b21d-7af7d3ab5ff3', 'k0', '1', 'set', 'alice', '2025-06-01 12:51:03.032088+00', NULL),
('rotated', '906c0a2c-1ebe-4ed5-9242-b939e92d331f', 'k1', '1', 'set', 'alice', '2025-06-01 12:51:03.032088+00', NULL),
('rotated', 'e3b30e1f-f7c7-4280-94ac-b9a755436930', 'k2', '1', 'set', 'alice', '2025-06-01 12:51:03.032088+00', NULL),
('rotated', 'cfd31de3-d806-4ffe-a9ac-e9b4a01e792d', 'k3', '1', 'set', 'alice', '2025-06-01 12:51:03.032088+00', NULL),
('rotated', 'de0e181f-9aaa-4ca4-b100-81d95a0f6a57', 'k4', '1', 'set', 'alice', '2025-06-01 12:51:03.032088+00', NULL),
('rotated', 'c84f55aa-f921-4fd7-8c10-c36df28211cd', 'k5', '1', 'set', 'alice', '2025-06-01 12:51:03.032088+00', NULL),
('rotated', 'c0a88834-231f-4c78-ae43-00597ac58411', 'k0', '2', 'set', 'alice', '2025-06-01 12:51:03.035307+00', NULL),
('rotated', '2968dcef-7828-4add-a009-9ad3da7d3117', 'k1', '1', 'delete', 'alice', '2025-06-01 12:51:03.037204+00', NULL),
('rotated', 'b8ba8ab1-84f9-48a8-ade9-5d88bd616d0e', 'k2', '2', 'set', 'alice', '2025-06-01 12:51:03.088781+00', NULL),
('rotated', 'dadc87ac-4095-455f-89bc-8c6b568d6b7f', 'k3', '2', 'set', 'alice', '2025-06-01 12:51:03.097556+00', NULL),
('shredded', '1492e0f3-1200-4c37-9044-8281aec5f063', 'lost', '1', 'set', 'alice', '2025-06-01 12:51:03.100254+00', NULL),
('shredded', 'e035f902-08f8-4ef5-a771-e1cc51f06026', 'lost', '2', 'set', 'alice', '2025-06-01 12:51:03.105666+00', NULL),
('shredded', 'b5635b1c-352f-49b1-94ef-d213b4b43c69', 'anew', '1', 'set', 'alice', '2025-06-01 12:51:03.118719+00', NULL);
